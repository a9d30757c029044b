/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Is this packet asked for? An expression of pcap-filter(7), which tracer/filter.py has made C of:
 * SKBTRACE_FILTER are its statements, SKBTRACE_FILTER_ADDRESSES says that it may look at Ethernet
 * addresses.
 *
 * It is given what tcpdump would show: the frame from its Ethernet header on, with a VLAN tag that
 * is kept beside the packet in its place. A packet that has no Ethernet header yet, or never gets
 * one, is given one with the addresses 0. What is paged (skb->data_len bytes at the end) cannot be
 * looked at, but for a page that begins with the network header. No maps here.
 */
#ifndef SKBTRACE_FILTER_H
#define SKBTRACE_FILTER_H

enum choice {
	TAKE,
	REFUSE,
	LATER, /* it has nothing yet that tells */
};

#ifdef SKBTRACE_FILTER
#define FRONT_AT 2 /* where the frame begins in `front`: that aligns what lies behind byte 14 */
#define FRONT_BYTES 62
#define ETH_ADDRESSES 12
#define TAG_BYTES 4

struct frame {
	__u64 front[8]; /* its first bytes, after FRONT_AT */
	__u64 rest;	/* address of byte 0, if all lay together with those from 18 on */
	__u32 linear;	/* bytes that can be looked at */
	__u32 len;
};

static __always_inline __u64 put_together(const __u8 *bytes, __u32 size)
{
	__u64 value = 0;
#pragma unroll
	for (__u32 i = 0; i < size; i++)
		value = value << 8 | bytes[i];
	return value;
}

/* A load from a place that is known when this is compiled. */
static __always_inline bool load_fixed(const struct frame *frame, __u64 at, __u32 size,
				       __u32 *value)
{
	if (at + size > frame->linear)
		return false;
	const __u8 *bytes = (const __u8 *)frame->front + FRONT_AT + at;
	__u32 word = 0;
	if (at + size > FRONT_BYTES)
		bpf_probe_read_kernel(&word, size, (void *)(frame->rest + at));
	else if (!((FRONT_AT + at) % size))
		word = size == 4 ? *(__u32 *)bytes : size == 2 ? *(__u16 *)bytes : *bytes;
	else {
		*value = put_together(bytes, size);
		return true;
	}
	*value = size == 4 ? __builtin_bswap32(word) : size == 2 ? __builtin_bswap16(word) : word;
	return true;
}

/* A load from anywhere. Without an index: the verifier lets none onto the stack. */
static __always_inline bool load_at(const struct frame *frame, __u64 at, __u32 size, __u32 *value)
{
	if (at + size > frame->linear)
		return false;
	if (at < ETHERNET_BYTES + TAG_BYTES) { /* which need not lie together with the rest */
		__u64 from = at + FRONT_AT, bits = from % 8 * 8;
		const __u64 *front = frame->front;
		__u64 first = from < 8 ? front[0] : from < 16 ? front[1] : front[2];
		__u64 second = from < 8 ? front[1] : from < 16 ? front[2] : front[3];
		first = __builtin_bswap64(first);
		second = __builtin_bswap64(second);
		if (bits)
			first = first << bits | second >> (64 - bits);
		*value = first >> (64 - 8 * size);
		return true;
	}
	__u32 word = 0;
	bpf_probe_read_kernel(&word, size, (void *)(frame->rest + at));
	*value = size == 4 ? __builtin_bswap32(word) : size == 2 ? __builtin_bswap16(word) : word;
	return true;
}

/* The words of SKBTRACE_FILTER. */
#define FILTER_FIXED(size, at)                                                                     \
	if (!load_fixed(frame, at, size, &A))                                                      \
		return 0;
#define FILTER_AT_X(size, at)                                                                      \
	if (!load_at(frame, (__u64)X + at, size, &A))                                              \
		return 0;
#define FILTER_HEADER(at) /* the length of an IPv4 header, from its first byte */                  \
	if (!load_fixed(frame, at, 1, &X))                                                         \
		return 0;                                                                          \
	X = (X & 0xf) << 2;

/* Classic BPF: an accumulator, an index register, 16 cells of memory. */
#define FILTER(name, statements)                                                                   \
	static __always_inline bool name(const struct frame *frame)                                \
	{                                                                                          \
		__u32 A = 0, X = 0;                                                                \
		__u32 M0 = 0, M1 = 0, M2 = 0, M3 = 0, M4 = 0, M5 = 0, M6 = 0, M7 = 0;              \
		__u32 M8 = 0, M9 = 0, M10 = 0, M11 = 0, M12 = 0, M13 = 0, M14 = 0, M15 = 0;        \
		statements                                                                         \
	}
FILTER(accepts, SKBTRACE_FILTER)

/* Return whether the packet has an Ethernet header of its own. */
static __always_inline bool see_frame(struct frame *frame, const struct headers *at,
				      const struct layout *of, __u64 skb)
{
	char *front = (char *)frame->front + FRONT_AT;
	bool ethernet = at->l2_len >= ETHERNET_BYTES;
	__u32 link = ethernet ? ETHERNET_BYTES : at->l2_len;
	__u32 tag = of->tagged ? TAG_BYTES : 0;
	__u32 size = at->size > link ? at->size - link : 0;
	/* what follows the Ethernet header, own or not */
	__u64 behind = at->apart || !ethernet ? at->network : at->start + ETHERNET_BYTES;

#pragma unroll
	for (int i = 0; i < 8; i++)
		frame->front[i] = 0;
	frame->rest = behind - ETHERNET_BYTES - tag;
	frame->linear = size + ETHERNET_BYTES + tag;
	frame->len = of->len + (__s16)at->pulled - link + ETHERNET_BYTES + tag;
	if (ethernet && !at->apart && !tag) {
		bpf_probe_read_kernel(front, FRONT_BYTES, (void *)at->start);
		return true;
	}
	__u16 type = of->protocol;
	if (ethernet) {
		bpf_probe_read_kernel(front, ETH_ADDRESSES, (void *)at->start);
		type = read_u16(at->start + ETH_ADDRESSES);
	} else if (!type) { /* IP has not said it yet */
		__u8 version = 0;
		bpf_probe_read_kernel(&version, 1, (void *)at->network);
		type = version >> 4 == 4   ? __builtin_bswap16(0x0800)
		       : version >> 4 == 6 ? __builtin_bswap16(0x86dd)
					   : 0;
	}
	if (!tag) {
		*(__u16 *)(front + ETH_ADDRESSES) = type;
		copy_some(front + ETHERNET_BYTES, behind, size, FRONT_BYTES - ETHERNET_BYTES);
		return ethernet;
	}
	*(__u16 *)(front + ETH_ADDRESSES) = read_u16(skb + OFF_SK_BUFF_VLAN_PROTO);
	*(__u16 *)(front + ETHERNET_BYTES) = __builtin_bswap16(of->tci);
	*(__u16 *)(front + ETHERNET_BYTES + 2) = type;
	copy_some(front + ETHERNET_BYTES + TAG_BYTES, behind, size,
		  FRONT_BYTES - ETHERNET_BYTES - TAG_BYTES);
	return ethernet;
}

static __always_inline enum choice chosen(const struct headers *at, const struct layout *of,
					  __u64 skb)
{
	struct frame frame;
	bool ethernet = see_frame(&frame, at, of, skb);
#ifdef SKBTRACE_FILTER_ADDRESSES
	if (!ethernet)
		return LATER;
#endif
	return accepts(&frame) ? TAKE : REFUSE;
}
#endif /* SKBTRACE_FILTER */

#endif
