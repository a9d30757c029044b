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
#define SKBTRACE_RESULT(ctx) ((ctx)->ax)
#else
#error "skbtrace reads the registers of x86-64 only"
#endif

#define SKB_NONE(ctx) 0
#define SKB_ARG1(ctx) SKBTRACE_REG1(ctx)
#define SKB_ARG2(ctx) SKBTRACE_REG2(ctx)
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

static __always_inline __u32 dev_ifindex(__u64 dev)
{
	return read_u32(dev + OFF_NET_DEVICE_IFINDEX);
}

/* The number people see in `ls -l /proc/PID/ns/net`. */
static __always_inline __u32 dev_netns(__u64 dev)
{
	return read_u32(read_u64(dev + OFF_NET_DEVICE_ND_NET) + OFF_NET_NS_INUM);
}

/* What only the first sight of a packet reads: its headers, as raw bytes. */
static __always_inline void read_headers(struct skbtrace_record *record, __u64 skb)
{
	__u64 head = skb_head(skb);
	/* protocol, transport_header, network_header, mac_header lie side by side */
	__u64 offsets = read_u64(skb + OFF_SK_BUFF_PROTOCOL);
	__u16 network = offsets >> 8 * (OFF_SK_BUFF_NETWORK_HEADER - OFF_SK_BUFF_PROTOCOL);
	__u16 mac = offsets >> 8 * (OFF_SK_BUFF_MAC_HEADER - OFF_SK_BUFF_PROTOCOL);

	/* (u16)~0: not set, see skb_mac_header_was_set() */
	if (mac == 0xffff || mac > network || network - mac > 64)
		mac = network;
	record->l2_len = network - mac;
	record->protocol = offsets;
	record->vlan_tci = 0;
#ifdef OFF_SK_BUFF_VLAN_PRESENT
	/* up to 6.1 a bit of its own says whether the tag is there (commit 354259fa73e2) */
	__u8 bits = 0;
	bpf_probe_read_kernel(&bits, 1, (void *)(skb + OFF_SK_BUFF_VLAN_PRESENT));
	record->has_vlan = !!(bits & MASK_SK_BUFF_VLAN_PRESENT);
#else
	record->has_vlan = read_u32(skb + OFF_SK_BUFF_VLAN_ALL) != 0;
#endif
	if (record->has_vlan)
		record->vlan_tci = read_u16(skb + OFF_SK_BUFF_VLAN_TCI);
	bpf_probe_read_kernel(record->headers, sizeof(record->headers), (void *)(head + mac));
}

#endif
