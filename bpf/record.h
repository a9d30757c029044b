/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The wire format: what the kernel program hands to user space, once per packet.
 *
 * Fixed-width types only, no padding, native byte order. tracer/wire.py is the other
 * side; a unit test compiles this file with the host's compiler and compares every
 * offset. This file must not know maps, BPF or the kernel.
 *
 * A journey is sent as one or more records (chunks): the fixed part, then `slots` slots
 * of 24 bytes. A slot is a hop (one function reached) or a note about the hop before it.
 */
#ifndef SKBTRACE_RECORD_H
#define SKBTRACE_RECORD_H

#define SKBTRACE_SLOTS 16
#define SKBTRACE_HEADER_BYTES 80 /* Ethernet + VLAN + IPv6 + TCP is 78 */

/* A slot whose `probe` is this is a note. */
#define SKBTRACE_NOTE 0xff
#define SKBTRACE_NOTE_CLONE 1 /* value: the clone's journey id */
#define SKBTRACE_NOTE_DROP 2  /* value: location, word: reason, or SKBTRACE_NO_REASON */
#define SKBTRACE_NO_REASON 0xffffffff

/* Flags of a hop. */
#define SKBTRACE_HOP_DEQUEUED 0x01  /* process_backlog took it from the queue just before */
#define SKBTRACE_HOP_AGE_KNOWN 0x02 /* arg: ns since that process_backlog call began */

/* Flags of a record. */
#define SKBTRACE_LAST 0x01	   /* the skb was freed; no chunk follows */
#define SKBTRACE_CLONE_QUEUED 0x02 /* a socket has taken a clone of this packet */
#define SKBTRACE_END_MISSED 0x04   /* the free was not seen, the address was reused */

struct skbtrace_hop {
	__u32 dt_ns; /* since base_ns of this record */
	__u8 probe;  /* position in PROBES */
	__u8 flags;
	__u16 cpu;
	__u32 ifindex; /* of skb->dev, 0 if that is NULL */
	__u32 netns;   /* inode number of skb->dev's namespace, 0 if NULL */
	__u32 len;     /* skb->len */
	__u32 arg; /* enqueue: target CPU; HOP_AGE_KNOWN: age, at most 2^32-1; end: dt_ns >> 32 */
};

struct skbtrace_note {
	__u32 word;
	__u8 probe; /* SKBTRACE_NOTE */
	__u8 kind;
	__u16 cpu;
	__u64 value;
	__u64 unused;
};

struct skbtrace_record {
	__u64 id;      /* unique in this capture: a number of its CPU's own, times CPUs, plus CPU */
	__u64 parent;  /* id of the journey this was cloned from, or 0 */
	__u64 skb;     /* its address */
	__u64 base_ns; /* bpf_ktime_get_ns; of chunk 0: the start of the journey */
	__u16 chunk;   /* 0, 1, ... */
	__u8 slots;
	__u8 flags;
	__u16 protocol; /* skb->protocol, network byte order */
	__u16 vlan_tci; /* the tag kept beside the packet, host byte order, if has_vlan */
	__u8 has_vlan;
	__u8 l2_len; /* bytes of link-layer header at the front of `headers` */
	__u8 unused[6];
	__u8 headers[SKBTRACE_HEADER_BYTES]; /* as they were at first sight */
	struct skbtrace_hop slot[SKBTRACE_SLOTS];
};

#endif
