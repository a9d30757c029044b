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

/* What the compiler knows of a value it does not tell the verifier: it must be compared again. */
#define FORGET(value) asm volatile("" : "+r"(value))

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

static __always_inline __u16 load_u16(const void *typed, __u64 offset)
{
	return *(__u16 *)(typed + offset);
}

static __always_inline __u8 load_u8(const void *typed, __u64 offset)
{
	return *(__u8 *)(typed + offset);
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
#define PF_KTHREAD 0x00200000

/* Where this CPU's variables lie. */
static __always_inline __u64 this_base(void)
{
	return read_u64(SKBTRACE_PER_CPU_OFFSET + 8 * bpf_get_smp_processor_id());
}

/*
 * Only if a process is at work, and not an interrupt, a softirq or a kernel thread, has the running
 * task anything to do with the packet. preempt_count() of include/linux/preempt.h: bit 8 is set
 * while a softirq is served, the bits above count hard interrupts and NMIs.
 */
static __always_inline bool is_interrupted(__u64 base)
{
	return read_u32(base + SKBTRACE_PREEMPT_COUNT) & 0xff0100;
}

static __always_inline bool is_kthread(void)
{
	return read_u32(bpf_get_current_task() + OFF_TASK_STRUCT_FLAGS) & PF_KTHREAD;
}

static __always_inline bool in_process(void)
{
	return !is_interrupted(this_base()) && !is_kthread();
}

static __always_inline __u32 task_netns(void)
{
	__u64 nsproxy = read_u64(bpf_get_current_task() + OFF_TASK_STRUCT_NSPROXY);
	return nsproxy ? net_inum(read_u64(nsproxy + OFF_NSPROXY_NET_NS)) : 0;
}

#ifdef SKBTRACE_GET_CURRENT_TASK_BTF
static __always_inline const void *current_task(void)
{
	const void *(*get_current_task_btf)(void) = (void *)SKBTRACE_GET_CURRENT_TASK_BTF;
	return get_current_task_btf();
}

static __always_inline __u32 typed_task_netns(const void *task)
{
	const void *nsproxy = load_pointer(task, OFF_TASK_STRUCT_NSPROXY);
	return nsproxy ? load_u32(load_pointer(nsproxy, OFF_NSPROXY_NET_NS), OFF_NET_NS_INUM) : 0;
}
#endif
#endif

/* What says where a packet's headers lie: members of struct sk_buff, as they are. */
struct layout {
	__u32 tail; /* this and `end` count from head */
	__u32 end;
	__u64 head;
	__u64 data;
	__u32 len;
	__u32 data_len; /* of len, what is in pages */
	__u16 protocol; /* network byte order */
	__u16 network;
	__u16 mac;
	__u16 tci; /* of the VLAN tag that is kept beside it, host byte order */
	__u64 tagged;
};

static __always_inline void read_layout(struct layout *of, __u64 skb)
{
	/* tail and end lie in the 16 bytes before head and data; len and data_len are neighbours, too */
	__u64 ends[4] = {};
	bpf_probe_read_kernel(ends, sizeof(ends), (void *)(skb + OFF_SK_BUFF_HEAD - 16));
	of->tail = *(__u32 *)((char *)ends + 16 + OFF_SK_BUFF_TAIL - OFF_SK_BUFF_HEAD);
	of->end = *(__u32 *)((char *)ends + 16 + OFF_SK_BUFF_END - OFF_SK_BUFF_HEAD);
	of->head = ends[2];
	of->data = ends[3];
	bpf_probe_read_kernel(&of->len, 8, (void *)(skb + OFF_SK_BUFF_LEN));
	/* ... and protocol, transport_header, network_header, mac_header */
	__u64 offsets = read_u64(skb + OFF_SK_BUFF_PROTOCOL);
	of->protocol = offsets;
	of->network = offsets >> 8 * (OFF_SK_BUFF_NETWORK_HEADER - OFF_SK_BUFF_PROTOCOL);
	of->mac = offsets >> 8 * (OFF_SK_BUFF_MAC_HEADER - OFF_SK_BUFF_PROTOCOL);
#ifdef OFF_SK_BUFF_VLAN_PRESENT
	/* up to 6.1 a bit of its own says whether the tag is there (commit 354259fa73e2) */
	__u8 bits = 0;
	bpf_probe_read_kernel(&bits, 1, (void *)(skb + OFF_SK_BUFF_VLAN_PRESENT));
	of->tagged = bits & MASK_SK_BUFF_VLAN_PRESENT;
#else
	of->tagged = read_u32(skb + OFF_SK_BUFF_VLAN_ALL);
#endif
	of->tci = of->tagged ? read_u16(skb + OFF_SK_BUFF_VLAN_TCI) : 0;
}

/* The same of a packet that the verifier knows as one, which wants each member by itself. */
static __always_inline void load_layout(struct layout *of, const void *skb)
{
	of->tail = load_u32(skb, OFF_SK_BUFF_TAIL);
	of->end = load_u32(skb, OFF_SK_BUFF_END);
	of->head = (__u64)load_pointer(skb, OFF_SK_BUFF_HEAD);
	of->data = (__u64)load_pointer(skb, OFF_SK_BUFF_DATA);
	of->len = load_u32(skb, OFF_SK_BUFF_LEN);
	of->data_len = load_u32(skb, OFF_SK_BUFF_DATA_LEN);
	of->protocol = load_u16(skb, OFF_SK_BUFF_PROTOCOL);
	of->network = load_u16(skb, OFF_SK_BUFF_NETWORK_HEADER);
	of->mac = load_u16(skb, OFF_SK_BUFF_MAC_HEADER);
#ifdef OFF_SK_BUFF_VLAN_PRESENT
	of->tagged = load_u8(skb, OFF_SK_BUFF_VLAN_PRESENT) & MASK_SK_BUFF_VLAN_PRESENT;
#else
	of->tagged = load_u32(skb, OFF_SK_BUFF_VLAN_ALL);
#endif
	of->tci = of->tagged ? load_u16(skb, OFF_SK_BUFF_VLAN_TCI) : 0;
}

/* Where a packet's headers lie. */
struct headers {
	__u64 start;   /* address of the link-layer header; where there is none, as `network` */
	__u64 network; /* ... of the network header */
	__u32 size;    /* bytes that lie there from `start` on */
	__u16 l2_len;
	__u16 pulled; /* bytes from `start` to skb->data, from which skb->len counts */
	bool apart;   /* the network header does not lie behind the link-layer header */
};

#define ETHERNET_BYTES 14

/*
 * A driver may leave all behind the Ethernet header in a page, until GRO or IP pulls what it needs
 * from there: virtio_net does (page_to_skb()). A page's address is what page_to_virt() says, of
 * include/linux/mm.h and arch/x86/include/asm/page_64.h.
 */
static __always_inline void find_in_page(struct headers *at, const struct layout *of)
{
#ifdef SKBTRACE_VMEMMAP_BASE
	__u64 shared = of->head + of->end; /* struct skb_shared_info */
	struct {
		__u64 page;
		__u32 len;
		__u32 offset;
	} frag = {};
	__u8 frags = 0;

	bpf_probe_read_kernel(&frags, 1, (void *)(shared + OFF_SKB_SHARED_INFO_NR_FRAGS));
	if (!frags)
		return;
	bpf_probe_read_kernel(&frag, sizeof(frag), (void *)(shared + OFF_SKB_SHARED_INFO_FRAGS));
	if (frag.page & 1) /* a device's memory, since 6.12 (commit 65249feb6b3d) */
		return;
	__u64 number = (frag.page - read_u64(SKBTRACE_VMEMMAP_BASE)) / SIZE_PAGE;
	__u64 address = read_u64(SKBTRACE_PAGE_OFFSET_BASE) + (number << 12) + frag.offset;
	if (!at->l2_len)
		at->start = address;
	else if (at->l2_len == ETHERNET_BYTES)
		at->apart = true;
	else
		return;
	at->network = address;
	at->size = at->l2_len + frag.len;
#endif
}

static __always_inline void find_headers(struct headers *at, const struct layout *of)
{
	__u16 network = of->network;
	__u16 mac = of->mac;

	if (!network) /* a driver has just received it: its data begins behind the link layer */
		network = of->data - of->head;
	/* (u16)~0: not set, see skb_mac_header_was_set() */
	if (mac == 0xffff || mac > network || network - mac > 64)
		mac = network;
	at->start = of->head + mac;
	at->network = of->head + network;
	at->size = of->tail > mac ? of->tail - mac : 0;
	at->l2_len = network - mac;
	at->pulled = of->data - at->start;
	at->apart = false;
	if (of->tail == network && of->data_len)
		find_in_page(at, of);
}

/* So many bytes from there, or `most`, which the compiler knows. Return how many could be read. */
static __always_inline __u64 copy_some(void *to, __u64 from, __u64 size, const __u64 most)
{
	FORGET(size);
	if (size > most)
		size = most;
	return bpf_probe_read_kernel(to, size, (void *)from) ? 0 : size;
}

/* The first `size` bytes of the headers and what lies with them, or as many as there are. */
static __always_inline __u64 copy_headers(void *to, const struct headers *at, __u64 size,
					  const __u64 most)
{
	if (size > at->size)
		size = at->size;
	if (!at->apart || most <= ETHERNET_BYTES || size <= ETHERNET_BYTES)
		return copy_some(to, at->start, size, most);
	bpf_probe_read_kernel(to, ETHERNET_BYTES, (void *)at->start);
	return ETHERNET_BYTES + copy_some(to + ETHERNET_BYTES, at->network, size - ETHERNET_BYTES,
					  most - ETHERNET_BYTES);
}

/* What only the first sight of a packet reads: its headers, as raw bytes. */
static __always_inline void read_headers(struct skbtrace_record *record, const struct headers *at,
					 const struct layout *of)
{
	record->l2_len = at->l2_len;
	record->protocol = of->protocol;
	record->has_vlan = !!of->tagged;
	record->vlan_tci = of->tci;
	record->pulled = at->pulled;
	if (at->size < sizeof(record->headers)) /* what lies behind them is none of the packet's */
		__builtin_memset(record->headers, 0, sizeof(record->headers));
	copy_headers(record->headers, at, sizeof(record->headers), sizeof(record->headers));
}

#endif
