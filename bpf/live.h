/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A packet that is being followed: its record, and what was known of it at its last hop, so
 * that the next one stores only what is different. No maps here.
 */
#ifndef SKBTRACE_LIVE_H
#define SKBTRACE_LIVE_H

#define DT_MAX 0xffffffffULL
#define RECORD_FIXED (sizeof(struct skbtrace_record) - SKBTRACE_SLOTS * sizeof(struct skbtrace_hop))
/* What a hop may need: itself, state, IP, two IPv6 addresses, Ethernet, and two of its own kind. */
#define SLOTS_HOP 8
/*
 * What the end may need: drop, rule, its chain, backlog, port, egress, inet, sock, the free, task, its
 * namespace.
 */
#define SLOTS_END 11

/* Verdicts of include/uapi/linux/netfilter.h and linux/netfilter/nf_tables.h. */
#define NF_DROP 0
#define NF_ACCEPT 1
#define NFT_CONTINUE (-1)
#define NFT_JUMP (-3)
#define NFT_GOTO (-4)

/* The nftables base chain a packet is in, and the last chains that it jumped to from there. */
#define NFT_JUMPS 4
#define NFT_CHAINS (1 + NFT_JUMPS)
struct nft {
	__u64 chain[NFT_CHAINS];
	__u64 expression; /* that gave the last verdict */
	__s32 code;	  /* that verdict */
	__u32 jumps;
};

/* As bytes and bits of the packet; compared, never interpreted. */
struct seen {
	__u32 mark;
	__u32 priority;
	__u32 hash;
	__u32 classid;
	__u16 tc_index;
	__u16 state;
	__u32 ports;
	__u16 ttl;
	__u16 unused[3];
	__u64 address[4]; /* IPv4: both in the first */
	__u64 eth[2];
	__u64 sk; /* whose classid that is */
};

/* A packet that is being followed. */
struct live {
	__u64 dev;	  /* skb->dev at the last hop: spares reading the same device again */
	__u64 parent_skb; /* of a clone: where its parent's record is */
	__u64 sk;	  /* the socket it was given to */
	__u64 port;	  /* the bridge port that the last hop sends it to */
	__u32 ifindex;
	__u32 netns;
	__u32 len;
	__u32 last;   /* position in PROBES of the last hop */
	__u32 final;  /* ... and whether that one is final */
	__u32 slot;   /* its own */
	__u32 arg;    /* of the last hop */
	__u32 count;  /* before it came: drops of its listener, packets of its packet socket */
	__u16 routed; /* 1: it has not been at a device yet, the one above is its route's */
	__u16 beside; /* 1: it has only been at devices that lead to those of the topology */
	__u16 tap;    /* position in PROBES of the packet socket's function it reached, or NO_TAP */
	__u8 passed;  /* if it is not followed: enum passed says why */
	__u8 dropped; /* 1: somebody has said so */
	__u32 drop_reason; /* ... with a reason, or SKBTRACE_NO_REASON */
#ifdef SKBTRACE_SNAPLEN
	__u32 kept; /* of `bytes`; 0 once they were sent */
#else
	__u32 unused;
#endif
	__u64 drop_at; /* ... and where; 0 if nobody has */
	__u64 last_ns; /* when the last hop was */
#ifdef SKBTRACE_NETFILTER
	struct nft nft;
#endif
#ifdef SKBTRACE_CHANGES
	struct seen seen;
#endif
	struct skbtrace_record record;
#ifdef SKBTRACE_SNAPLEN
	/* The packet's first bytes. Right behind the record: see lay_bytes(). */
	__u8 bytes[(SKBTRACE_SNAPLEN + 7) / 8 * 8];
#endif
};

#define NO_TAP 0xff

static __always_inline struct skbtrace_hop *next_slot(struct live *p)
{
	__u64 n = p->record.slots;
	if (n >= SKBTRACE_SLOTS)
		return 0;
	p->record.slots = n + 1;
	return &p->record.slot[n];
}

static __always_inline void note(struct live *p, __u8 kind, __u32 word, __u16 half, __u64 value,
				 __u64 more)
{
	struct skbtrace_note *slot = (struct skbtrace_note *)next_slot(p);
	if (!slot)
		return;
	slot->word = word;
	slot->probe = SKBTRACE_NOTE;
	slot->kind = kind;
	slot->half = half;
	slot->value = value;
	slot->more = more;
}

#ifdef SKBTRACE_SNAPLEN
#define VLAN_BYTES 4

/*
 * Keep the packet's first bytes, so many that the frame which user space makes of them, with an
 * Ethernet header and the tag beside the packet, has SKBTRACE_SNAPLEN at most. Only what its headers
 * lie together with.
 */
static __always_inline void keep_bytes(struct live *p, const struct headers *at,
				       const struct layout *of)
{
	__u64 most = SKBTRACE_SNAPLEN;

	if (of->tagged)
		most -= VLAN_BYTES;
	if (at->l2_len < ETHERNET_BYTES)
		most -= ETHERNET_BYTES - at->l2_len;
	p->kept = copy_headers(p->bytes, at, most, SKBTRACE_SNAPLEN);
}

/*
 * Move the bytes to behind the slots that are used, `size` bytes from the front of the record, so that
 * all can be sent in one go. Where they overlap: it is copied from the front on (copy_from_kernel_
 * nofault(), mm/maccess.c), and to where 24 bytes or more lie before. Return how many they are.
 */
static __always_inline __u64 lay_bytes(struct live *p, __u64 size)
{
	__u64 kept = p->kept;
	p->kept = 0;
	FORGET(kept);
	if (kept > SKBTRACE_SNAPLEN)
		return 0;
	if (size < sizeof(p->record))
		bpf_probe_read_kernel((char *)&p->record + size, kept, p->bytes);
	return kept;
}
#endif

static __always_inline void see_device(struct live *p, __u64 dev)
{
	p->dev = dev;
	p->ifindex = 0;
	p->netns = 0;
	if (dev) {
		p->ifindex = dev_ifindex(dev);
		p->netns = dev_netns(dev);
	}
}

/*
 * The packet's device; before it has one, its route's. Later, no device means that there is none:
 * TCP takes it away, and the route of what is received leads to lo.
 */
static __always_inline bool is_routed(struct live *p, __u64 dev)
{
	if (dev)
		p->routed = 0;
	return p->routed;
}

static __always_inline __u64 device_of(struct live *p, __u64 skb)
{
	__u64 dev = skb_dev(skb);
	return is_routed(p, dev) ? dst_dev(skb_refdst(skb)) : dev;
}

static __always_inline void see_typed_device(struct live *p, const void *dev)
{
	p->dev = (__u64)dev;
	p->ifindex = 0;
	p->netns = 0;
	if (dev) {
		const void *net = load_pointer(dev, OFF_NET_DEVICE_ND_NET);
		p->ifindex = load_u32(dev, OFF_NET_DEVICE_IFINDEX);
		p->netns = load_u32(net, OFF_NET_NS_INUM);
	}
}

static __always_inline void fill(struct skbtrace_hop *slot, struct live *p, __u64 now, __u32 probe,
				 __u8 flags, __u32 arg)
{
	slot->dt_ns = now - p->record.base_ns;
	slot->probe = probe;
	slot->flags = flags;
	slot->cpu = bpf_get_smp_processor_id();
	slot->ifindex = p->ifindex;
	slot->netns = p->netns;
	slot->len = p->len;
	slot->arg = arg;
}

#ifdef SKBTRACE_CHANGES
/* Everything of struct sk_buff that is looked at lies in one window, read in one go. */
struct window {
	__u64 word[SKB_WINDOW / 8];
};
#define WINDOW(w, type, offset) (*(type *)((char *)(w)->word + ((offset)-SKB_FIRST)))

static __always_inline __u16 state_bits(struct window *w)
{
	__u64 ct = WINDOW(w, __u64, OFF_SK_BUFF__NFCT);
	__u16 bits = SKBTRACE_STATE_KNOWN;

	bits |= WINDOW(w, __u8, OFF_SK_BUFF_IP_SUMMED) >> SHIFT_SK_BUFF_IP_SUMMED & 3;
	if (ct)
		bits |= SKBTRACE_STATE_CT | (ct & 7) << 2;
	if (WINDOW(w, __u64, OFF_SK_BUFF_SK))
		bits |= SKBTRACE_STATE_SK;
	if (WINDOW(w, __u64, OFF_SK_BUFF__SKB_REFDST))
		bits |= SKBTRACE_STATE_REFDST;
	return bits;
}

static __always_inline void see_state(struct live *p, struct window *w, bool first)
{
	struct seen *s = &p->seen;
	__u64 sk = WINDOW(w, __u64, OFF_SK_BUFF_SK);
	__u32 mark = WINDOW(w, __u32, OFF_SK_BUFF_MARK);
	__u32 priority = WINDOW(w, __u32, OFF_SK_BUFF_PRIORITY);
	__u32 hash = WINDOW(w, __u32, OFF_SK_BUFF_HASH);
	__u16 tc_index = WINDOW(w, __u16, OFF_SK_BUFF_TC_INDEX);
	__u16 state = state_bits(w);
	__u32 classid = s->classid;

	if (first || sk != s->sk)
		classid = sk ? sk_classid(sk) : 0;
	if (!first && mark == s->mark && priority == s->priority && hash == s->hash &&
	    tc_index == s->tc_index && state == s->state && classid == s->classid)
		return;
	s->sk = sk;
	s->mark = mark;
	s->priority = priority;
	s->hash = hash;
	s->classid = classid;
	s->tc_index = tc_index;
	s->state = state;
	if (!first) {
		note(p, SKBTRACE_NOTE_STATE, mark, tc_index, (__u64)hash << 32 | priority,
		     (__u64)state << 32 | classid);
		return;
	}
	p->record.mark = mark;
	p->record.priority = priority;
	p->record.hash = hash;
	p->record.classid = classid;
	p->record.tc_index = tc_index;
	p->record.state = state;
}

/* The link-layer and network headers: 14 bytes at 2, so that what follows is aligned. */
struct front {
	__u64 word[8];
};
#define FRONT(f, type, offset) (*(type *)((char *)(f)->word + (offset)))
#define FRONT_NETWORK 16
#define ETH_MASK 0xffffffffffffULL

/* TCP, UDP and SCTP ports, or the id of an ICMP echo: what NAT may rewrite. */
static __always_inline __u32 ports_of(__u8 protocol, __u32 first, __u32 second)
{
	if (protocol == 6 || protocol == 17 || protocol == 132)
		return first;
	if (protocol == 1 && ((first & 0xff) == 8 || (first & 0xff) == 0))
		return second & 0xffff;
	if (protocol == 58 && ((first & 0xff) == 128 || (first & 0xff) == 129))
		return second & 0xffff;
	return 0;
}

static __always_inline void see_headers(struct live *p, struct window *w, bool first)
{
	struct seen *s = &p->seen;
	struct front f = {};
	__u64 head = WINDOW(w, __u64, OFF_SK_BUFF_HEAD);
	__u16 network = WINDOW(w, __u16, OFF_SK_BUFF_NETWORK_HEADER);
	__u16 mac = WINDOW(w, __u16, OFF_SK_BUFF_MAC_HEADER);
	__u64 address[4] = {};
	__u32 ports = 0;
	__u16 ttl = 0;

	/* not set yet, or in a page */
	if (network == 0 || network == 0xffff || network >= WINDOW(w, __u32, OFF_SK_BUFF_TAIL))
		return;
	if (mac + 14 == network) {
		bpf_probe_read_kernel((char *)f.word + 2, 62, (void *)(head + mac));
		__u64 to = FRONT(&f, __u64, 0) >> 16;
		__u64 from = FRONT(&f, __u64, 8) & ETH_MASK;
		if (to != s->eth[0] || from != s->eth[1]) {
			s->eth[0] = to;
			s->eth[1] = from;
			if (!first)
				note(p, SKBTRACE_NOTE_ETH, 0, 0, to, from);
		}
	} else {
		bpf_probe_read_kernel((char *)f.word + FRONT_NETWORK, 48, (void *)(head + network));
	}

	__u8 version = FRONT(&f, __u8, 16);
	if (version == 0x45) {
		ttl = 4 << 8 | FRONT(&f, __u8, 24);
		address[0] = FRONT(&f, __u32, 28) | (__u64)FRONT(&f, __u32, 32) << 32;
		if (!(FRONT(&f, __u16, 22) & 0xff1f)) /* no later fragment */
			ports = ports_of(FRONT(&f, __u8, 25), FRONT(&f, __u32, 36),
					 FRONT(&f, __u32, 40));
	} else if (version >> 4 == 4) {
		ttl = 4 << 8 | FRONT(&f, __u8, 24);
		address[0] = FRONT(&f, __u32, 28) | (__u64)FRONT(&f, __u32, 32) << 32;
	} else if (version >> 4 == 6) {
		ttl = 6 << 8 | FRONT(&f, __u8, 23);
		address[0] = FRONT(&f, __u64, 24);
		address[1] = FRONT(&f, __u64, 32);
		address[2] = FRONT(&f, __u64, 40);
		address[3] = FRONT(&f, __u64, 48);
		ports = ports_of(FRONT(&f, __u8, 22), FRONT(&f, __u32, 56), FRONT(&f, __u32, 60));
	} else {
		return;
	}
	bool same_source = address[0] == s->address[0] && address[1] == s->address[1];
	bool same_destination = address[2] == s->address[2] && address[3] == s->address[3];
	if (!first && ttl == s->ttl && ports == s->ports && same_source && same_destination)
		return;
	s->ttl = ttl;
	s->ports = ports;
	s->address[0] = address[0];
	s->address[1] = address[1];
	s->address[2] = address[2];
	s->address[3] = address[3];
	if (first)
		return;
	note(p, SKBTRACE_NOTE_IP, ports, ttl, address[0], 0);
	if (ttl >> 8 == 6 && !same_source)
		note(p, SKBTRACE_NOTE_SRC6, 0, 0, address[0], address[1]);
	if (ttl >> 8 == 6 && !same_destination)
		note(p, SKBTRACE_NOTE_DST6, 0, 0, address[2], address[3]);
}

/* Device and length of the packet as it is now. */
static __always_inline void look(struct live *p, __u64 skb, struct window *w)
{
	bpf_probe_read_kernel(w->word, sizeof(w->word), (void *)(skb + SKB_FIRST));
	__u64 dev = WINDOW(w, __u64, OFF_SK_BUFF_DEV);
	if (is_routed(p, dev))
		dev = dst_dev(WINDOW(w, __u64, OFF_SK_BUFF__SKB_REFDST));
	if (dev != p->dev)
		see_device(p, dev);
	p->len = WINDOW(w, __u32, OFF_SK_BUFF_LEN);
}
#else
static __always_inline void look(struct live *p, __u64 skb)
{
	__u64 dev = device_of(p, skb);
	if (dev != p->dev)
		see_device(p, dev);
	p->len = skb_len(skb);
}

static __always_inline void look_typed(struct live *p, const void *skb)
{
	const void *dev = load_pointer(skb, OFF_SK_BUFF_DEV);
	if (is_routed(p, (__u64)dev)) {
		look(p, (__u64)skb);
		return;
	}
	if ((__u64)dev != p->dev)
		see_typed_device(p, dev);
	p->len = load_u32(skb, OFF_SK_BUFF_LEN);
}
#endif

/* Append a hop of a packet that is what it was at the last one: nothing is read. */
static __always_inline void add_same_hop(struct live *p, __u64 now, __u32 probe, __u32 final,
					 __u8 flags, __u32 arg)
{
	struct skbtrace_hop *slot = next_slot(p);
	if (!slot)
		return;
	fill(slot, p, now, probe, flags, arg);
	p->last = probe;
	p->final = final;
	p->arg = arg;
}

/* Append a hop, and what is different about the packet. */
static __always_inline void add_hop(struct live *p, __u64 now, __u32 probe, __u32 final, __u64 skb,
				    __u8 flags, __u32 arg)
{
#ifdef SKBTRACE_CHANGES
	struct window w;
	look(p, skb, &w);
	add_same_hop(p, now, probe, final, flags, arg);
	see_state(p, &w, false);
	see_headers(p, &w, false);
#else
	look(p, skb);
	add_same_hop(p, now, probe, final, flags, arg);
#endif
}

/* The same of a packet that the verifier knows as one. */
static __always_inline void add_typed_hop(struct live *p, __u64 now, __u32 probe, __u32 final,
					  const void *skb, __u32 arg)
{
#ifdef SKBTRACE_CHANGES
	add_hop(p, now, probe, final, (__u64)skb, 0, arg);
#else
	look_typed(p, skb);
	add_same_hop(p, now, probe, final, 0, arg);
#endif
}

#endif
