/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The wire format: what the kernel program hands to user space, once per packet.
 *
 * Fixed-width types only, no padding, native byte order. tracer/wire.py is the other
 * side; a unit test compiles this file with the host's compiler and compares every
 * offset. This file must not know maps, BPF or the kernel.
 *
 * A journey is sent as one or more records (chunks): the fixed part, then `slots` slots
 * of 24 bytes. A slot is a hop (one function reached) or a note about the hop before it. If it was
 * asked for, the packet's first bytes as they were at first sight follow the slots of chunk 0, from
 * the link-layer header on (what stands in `headers` again); as many as there are, up to the end.
 */
#ifndef SKBTRACE_RECORD_H
#define SKBTRACE_RECORD_H

#define SKBTRACE_SLOTS 48
#define SKBTRACE_HEADER_BYTES 120 /* an ICMPv6 error and the headers it carries are 118 */

/* A slot whose `probe` is this is a note. */
#define SKBTRACE_NOTE 0xff
#define SKBTRACE_NOTE_CLONE 1 /* value: the journey id of what was made of this packet */
#define SKBTRACE_NOTE_DROP 2  /* value: location, word: reason, or SKBTRACE_NO_REASON */
#define SKBTRACE_NO_REASON 0xffffffff
/* What is different, on entry of the hop before this note, from what was known before. */
#define SKBTRACE_NOTE_STATE                                                                        \
	3 /* word: mark, half: tc_index, value: priority and, upper half, hash,
				 more: classid and, upper half, state bits */
#define SKBTRACE_NOTE_IP                                                                           \
	4		     /* word: ports, or id of an ICMP echo, as in memory; half: TTL or hop
				 limit, upper byte: 4 or 6; value: IPv4 source and destination */
#define SKBTRACE_NOTE_SRC6 5 /* value, more: IPv6 source */
#define SKBTRACE_NOTE_DST6 6 /* value, more: IPv6 destination */
#define SKBTRACE_NOTE_ETH 7  /* value, more: destination and source in the first 6 bytes each */
/* More about the hop itself. */
#define SKBTRACE_NOTE_TABLE 8  /* value, more: a key of the map `tables` */
#define SKBTRACE_NOTE_SOCKET 9 /* word: namespace, half: family, value: type << 32 | protocol */
#define SKBTRACE_NOTE_TASK 10  /* word: tgid, value, more: comm */
#define SKBTRACE_NOTE_TASK_NETNS                                                                   \
	11			/* word: the task's namespace, if not that of the hop's device */
#define SKBTRACE_NOTE_MERGED 12 /* value: journey id of what it is merged into, or 0 */
/* More about the drop. */
#define SKBTRACE_NOTE_RULE 13 /* value: handle of the rule that gave the verdict */
#define SKBTRACE_NOTE_BACKLOG                                                                      \
	14 /* value: packets in the input queue; more: its limit, if word is not 0 */
#define SKBTRACE_NOTE_PORT 15 /* word: port state, value: flags */
#define SKBTRACE_NOTE_INET                                                                         \
	16 /* word: mtu, value: forwarding and, upper half, rp_filter; more: all/ */
#define SKBTRACE_NOTE_SOCK                                                                         \
	17 /* word: rcvbuf, value: rmem_alloc, more: ack_backlog and, upper half, max */
#define SKBTRACE_NOTE_LISTENER                                                                     \
	18 /* no kfree_skb, but the listener counted a drop: word: how many,
				     value: ack_backlog and, upper half, max, more: length of the queue of SYNs */

#define SKBTRACE_NOTE_EGRESS                                                                       \
	19 /* the bridge port it was to leave by: word: port state, value: flags, more: ifindex and,
		      upper half, namespace of its device */

/* State bits. */
#define SKBTRACE_STATE_KNOWN 0x8000 /* else the state was not looked at */
#define SKBTRACE_STATE_CSUM 0x0003  /* ip_summed */
#define SKBTRACE_STATE_CTINFO 0x001c
#define SKBTRACE_STATE_CT 0x0020
#define SKBTRACE_STATE_SK 0x0040
#define SKBTRACE_STATE_REFDST 0x0080

/* Flags of a hop. */
#define SKBTRACE_HOP_DEQUEUED 0x01  /* process_backlog took it from the queue just before */
#define SKBTRACE_HOP_AGE_KNOWN 0x02 /* arg: ns since that process_backlog call began */

/* Flags of a record. */
#define SKBTRACE_LAST 0x01	   /* the skb was freed; no chunk follows */
#define SKBTRACE_CLONE_QUEUED 0x02 /* a socket has taken a clone of this packet */
#define SKBTRACE_END_MISSED 0x04   /* the free was not seen, the address was reused */
#define SKBTRACE_FROM_QUEUE 0x08   /* it was in a socket's receive queue when it was freed */
#define SKBTRACE_REFUSED 0x10	   /* the packet socket it came to last did not want it */

struct skbtrace_hop {
	__u32 dt_ns; /* since base_ns of this record */
	__u8 probe;  /* position in PROBES */
	__u8 flags;
	__u16 cpu;
	__u32 ifindex; /* of skb->dev, 0 if that is NULL */
	__u32 netns;   /* inode number of skb->dev's namespace, 0 if NULL */
	__u32 len;     /* skb->len */
	__u32 arg;     /* enqueue: target CPU; HOP_AGE_KNOWN: age, at most 2^32-1; end: dt_ns >> 32;
		      nf_hook_slow: hook | family << 8 */
};

struct skbtrace_note {
	__u32 word;
	__u8 probe; /* SKBTRACE_NOTE */
	__u8 kind;
	__u16 half;
	__u64 value;
	__u64 more;
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
	__u8 l2_len;	/* bytes of link-layer header at the front of `headers` */
	__u16 tc_index; /* this and the next five as at first sight */
	__u16 state;	/* state bits */
	__u16 pulled;	/* bytes from the front of `headers` to skb->data, where len begins */
	__u32 mark;
	__u32 priority;
	__u32 hash;
	__u32 classid;
	__u8 headers[SKBTRACE_HEADER_BYTES]; /* as they were at first sight */
	struct skbtrace_hop slot[SKBTRACE_SLOTS];
};

/*
 * Beside the records: how many packets have ended so, whether or not anybody gets their records.
 * The bytes are a key of a map.
 */
#define SKBTRACE_END_OTHER 0xff /* `probe` of those for which there is no room */
struct skbtrace_end {
	__u64 drop_at;	   /* code that dropped them, or 0 */
	__u32 drop_reason; /* or SKBTRACE_NO_REASON */
	__u32 netns;	   /* of the device of the last hop before the free */
	__u32 ifindex;
	__u8 probe;   /* position in PROBES of that hop */
	__u8 branch;  /* 1: made of other packets */
	__u8 dropped; /* 1: somebody has said so */
	__u8 unused;
};
struct skbtrace_end_count {
	__u64 packets;
	__u64 bytes; /* skb->len at that hop */
};

#endif
