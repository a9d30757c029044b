/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pure readers: from a function's registers to the skb, from the skb to its device,
 * namespace and headers. No maps here: bcc rewrites map operations in the main file only.
 *
 * Every OFF_* and SIZE_* is a byte offset in the running kernel's structs; tracer/kernel/
 * takes them from BTF and passes them on the command line, so no kernel header is needed.
 */
#ifndef SKBTRACE_SKB_H
#define SKBTRACE_SKB_H

#if defined(__TARGET_ARCH_x86) || defined(__x86_64__)
/* arch/x86/include/asm/ptrace.h; the part that probes read is the same since 2.6 */
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx;
	unsigned long r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax;
	unsigned long ip, cs, flags, sp, ss;
};
#define SKBTRACE_REG1(ctx) ((ctx)->di)
#define SKBTRACE_REG2(ctx) ((ctx)->si)
#define SKBTRACE_REG3(ctx) ((ctx)->dx)
#define SKBTRACE_REG4(ctx) ((ctx)->cx)
#define SKBTRACE_STACK(ctx) ((ctx)->sp)
#define SKBTRACE_RESULT(ctx) ((ctx)->ax)
#else
#error "skbtrace reads the registers of x86-64 only"
#endif

#define SKB_NONE(ctx) 0
#define SKB_ARG1(ctx) SKBTRACE_REG1(ctx)
#define SKB_ARG2(ctx) SKBTRACE_REG2(ctx)
#define SKB_ARG3(ctx) SKBTRACE_REG3(ctx)
#define SKB_ARG4(ctx) SKBTRACE_REG4(ctx)
#define SKB_AT_ARG1(ctx) read_u64(SKBTRACE_REG1(ctx))

static __always_inline __u64 read_u64(__u64 address)
{
	__u64 value = 0;
	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline __u32 read_u32(__u64 address)
{
	__u32 value = 0;
	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline __u16 read_u16(__u64 address)
{
	__u16 value = 0;
	bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

/*
 * What a program by fentry or fexit is given: its function's arguments, and behind them what it
 * returns. Those that point to a
 * struct are pointers for the verifier, too: a member is read by a load, at no call's cost.
 */
struct arguments {
	__u64 arg[0];
};
#define TYPED_SKB_ARG1(given) ((const void *)(given)->arg[0])
#define TYPED_SKB_ARG2(given) ((const void *)(given)->arg[1])
#define TYPED_SKB_NONE(given) TYPED_SKB_ARG1(given) /* process_backlog's napi; at a return */
#ifdef SKBTRACE_GET_FUNC_ARG
/* A pointer to a pointer has no type for the verifier, and is to be had as a number only. */
static __always_inline __u64 argument(struct arguments *given, __u32 number)
{
	long (*get_func_arg)(void *, __u32, __u64 *) = (void *)SKBTRACE_GET_FUNC_ARG;
	__u64 value = 0;
	get_func_arg(given, number, &value);
	return value;
}
#define TYPED_SKB_AT_ARG1(given) read_u64(argument(given, 0)) /* has none, either */
#endif

/* The same of a pointer that the verifier knows: where it leads to is a struct of the kernel. */
static __always_inline __u32 load_u32(const void *typed, __u64 offset)
{
	return *(__u32 *)(typed + offset);
}

static __always_inline const void *load_pointer(const void *typed, __u64 offset)
{
	return *(const void **)(typed + offset);
}

static __always_inline __u64 skb_dev(__u64 skb)
{
	return read_u64(skb + OFF_SK_BUFF_DEV);
}

static __always_inline __u32 skb_len(__u64 skb)
{
	return read_u32(skb + OFF_SK_BUFF_LEN);
}

static __always_inline __u64 skb_head(__u64 skb)
{
	return read_u64(skb + OFF_SK_BUFF_HEAD);
}

static __always_inline __u64 skb_refdst(__u64 skb)
{
	return read_u64(skb + OFF_SK_BUFF__SKB_REFDST);
}

/* A packet that goes out has no device yet while IP works on it, but a route, which has one. */
static __always_inline __u64 dst_dev(__u64 refdst)
{
	__u64 dst = refdst & ~1ULL; /* SKB_DST_NOREF */
	return dst ? read_u64(dst + OFF_DST_ENTRY_DEV) : 0;
}

static __always_inline __u32 net_inum(__u64 net)
{
	return read_u32(net + OFF_NET_NS_INUM);
}

static __always_inline __u32 dev_ifindex(__u64 dev)
{
	return read_u32(dev + OFF_NET_DEVICE_IFINDEX);
}

/* The number people see in `ls -l /proc/PID/ns/net`. */
static __always_inline __u32 dev_netns(__u64 dev)
{
	return net_inum(read_u64(dev + OFF_NET_DEVICE_ND_NET));
}

static __always_inline __u32 sk_netns(__u64 sk)
{
	return net_inum(read_u64(sk + OFF_SOCK_COMMON_SKC_NET));
}

static __always_inline __u64 sk_type_protocol(__u64 sk)
{
	__u64 type = read_u16(sk + OFF_SOCK_SK_TYPE);
	return type << 32 | read_u16(sk + OFF_SOCK_SK_PROTOCOL);
}

/* net_cls: what sock_cgroup_classid() of include/linux/cgroup-defs.h returns. */
static __always_inline __u32 sk_classid(__u64 sk)
{
#ifdef OFF_SOCK_CGROUP_DATA_CLASSID
	__u64 data = sk + OFF_SOCK_SK_CGRP_DATA;
#ifdef OFF_SOCK_CGROUP_DATA_IS_DATA
	/* up to 5.14 the class id shares its place with a pointer (commit 8520e224f547) */
	if (!(read_u32(data + OFF_SOCK_CGROUP_DATA_IS_DATA) & 1))
		return 0;
#endif
	return read_u32(data + OFF_SOCK_CGROUP_DATA_CLASSID);
#else
	return 0;
#endif
}

#ifdef SKBTRACE_PREEMPT_COUNT
/*
 * Whether a process is at work, and not an interrupt, a softirq or a kernel thread: only then has
 * the running task anything to do with the packet. preempt_count() of include/linux/preempt.h:
 * bit 8 is set while a softirq is served, the bits above count hard interrupts and NMIs.
 */
static __always_inline bool in_process(void)
{
	__u64 base = read_u64(SKBTRACE_PER_CPU_OFFSET + 8 * bpf_get_smp_processor_id());
	__u32 count = read_u32(base + SKBTRACE_PREEMPT_COUNT);
	if (count & 0xff0100)
		return false;
	return !(read_u32(bpf_get_current_task() + OFF_TASK_STRUCT_FLAGS) &
		 0x00200000); /* PF_KTHREAD */
}

static __always_inline __u32 task_netns(void)
{
	__u64 nsproxy = read_u64(bpf_get_current_task() + OFF_TASK_STRUCT_NSPROXY);
	return nsproxy ? net_inum(read_u64(nsproxy + OFF_NSPROXY_NET_NS)) : 0;
}
#endif

/* Where a packet's headers lie, and the VLAN tag that is kept beside it. */
struct headers {
	__u64 start; /* address of the link-layer header; where there is none, as `network` */
	__u64 network;
	__u64 data;	/* skb->data, from which skb->len counts */
	__u16 protocol; /* network byte order */
	__u16 tci;	/* host byte order */
	bool tagged;
};

static __always_inline void find_headers(struct headers *at, __u64 skb)
{
	__u64 ends[2] = {}; /* head, data */
	bpf_probe_read_kernel(ends, sizeof(ends), (void *)(skb + OFF_SK_BUFF_HEAD));
	/* protocol, transport_header, network_header, mac_header lie side by side */
	__u64 offsets = read_u64(skb + OFF_SK_BUFF_PROTOCOL);
	__u16 network = offsets >> 8 * (OFF_SK_BUFF_NETWORK_HEADER - OFF_SK_BUFF_PROTOCOL);
	__u16 mac = offsets >> 8 * (OFF_SK_BUFF_MAC_HEADER - OFF_SK_BUFF_PROTOCOL);

	if (!network) /* a driver has just received it: its data begins behind the link layer */
		network = ends[1] - ends[0];
	/* (u16)~0: not set, see skb_mac_header_was_set() */
	if (mac == 0xffff || mac > network || network - mac > 64)
		mac = network;
	at->start = ends[0] + mac;
	at->network = ends[0] + network;
	at->data = ends[1];
	at->protocol = offsets;
	at->tci = 0;
#ifdef OFF_SK_BUFF_VLAN_PRESENT
	/* up to 6.1 a bit of its own says whether the tag is there (commit 354259fa73e2) */
	__u8 bits = 0;
	bpf_probe_read_kernel(&bits, 1, (void *)(skb + OFF_SK_BUFF_VLAN_PRESENT));
	at->tagged = !!(bits & MASK_SK_BUFF_VLAN_PRESENT);
#else
	at->tagged = read_u32(skb + OFF_SK_BUFF_VLAN_ALL) != 0;
#endif
	if (at->tagged)
		at->tci = read_u16(skb + OFF_SK_BUFF_VLAN_TCI);
}

/* What only the first sight of a packet reads: its headers, as raw bytes. */
static __always_inline void read_headers(struct skbtrace_record *record, __u64 skb)
{
	struct headers at;
	find_headers(&at, skb);
	record->l2_len = at.network - at.start;
	record->protocol = at.protocol;
	record->has_vlan = at.tagged;
	record->vlan_tci = at.tci;
	record->pulled = at.data - at.start;
	bpf_probe_read_kernel(record->headers, sizeof(record->headers), (void *)at.start);
}

#endif
