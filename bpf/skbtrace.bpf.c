// SPDX-License-Identifier: GPL-2.0-only
/*
 * skbtrace: one record per living packet.
 *
 * Each probed function appends a hop to the record of its skb; the record is sent once, when
 * the skb is freed, or in chunks when its slots are full. The key is the skb's address; the
 * record is removed at the free, for the address is used again within microseconds.
 *
 * Map operations stand in this file only (bcc rewrites no other). The probe table,
 * tracer/probes.py, is expanded at the foot: X(position, attach, function, skb, handler, final).
 * SKBTRACE_CPUS, SKBTRACE_LIVE, SKBTRACE_RING_PAGES, SKBTRACE_KFREE_ARGS and, if only some
 * devices may start a journey, SKBTRACE_SCOPED come from the command line, as do all OFF_*.
 */
#include "record.h"
#include "skb.h"

/* For bcc. The helpers that read the kernel's memory are for GPL programs only. */
#define BPF_LICENSE GPL

#define DT_MAX 0xffffffffULL
#define RECORD_FIXED (sizeof(struct skbtrace_record) - SKBTRACE_SLOTS * sizeof(struct skbtrace_hop))

/* Loss counters, in the order of tracer/wire.py's LOSSES. */
enum lost {
	LOST_RING_FULL,
	LOST_TABLE_FULL,
	LOST_END_MISSED,
	LOST_CLONE_MISSED,
	LOST_HOP_LIMIT,
	LOSSES,
};

/* A packet that is being followed, or what is kept of one that has ended (see forget()). */
struct live {
	__u64 dev;	  /* skb->dev at the last hop: spares reading the same device again */
	__u64 parent_skb; /* of a clone: where its parent's record is */
	__u32 ifindex;
	__u32 netns;
	__u32 len;
	__u32 last;  /* position in PROBES of the last hop */
	__u32 final; /* ... and whether that one is final */
	__u32 alive; /* 0: ended */
	struct skbtrace_record record;
};

/* What belongs to a CPU. Probes do not nest on a CPU (kprobe_running), so this is safe. */
struct cpu_state {
	__u64 number;	    /* of journeys begun here */
	__u64 serve_ns;	    /* when the last process_backlog call began here */
	__u64 clone_parent; /* the skb whose skb_clone is under way here */
	__u64 clone_head;
	/* of a packet seen for the first time, on its way to skbtrace_begin() */
	__u64 first_skb;
	__u64 first_ns;
	__u32 first_probe;
	__u32 first_final;
	__u64 first_arg;
	__u64 lost[LOSSES];
	struct live fresh; /* too large for the stack */
};

BPF_HASH(live, __u64, struct live, SKBTRACE_LIVE);
BPF_PERCPU_ARRAY(cpus, struct cpu_state, 1);
BPF_ARRAY(entries, __u64, 1); /* in `live` */
BPF_ARRAY(tracing, __u32, 1);
#ifdef SKBTRACE_SCOPED
BPF_HASH(scope, __u64, __u8, 16384);
#endif
BPF_PROG_ARRAY(begins, 1);
BPF_RINGBUF_OUTPUT(records, SKBTRACE_RING_PAGES);

static __always_inline void count_lost(enum lost what)
{
	__u32 zero = 0;
	struct cpu_state *cpu = cpus.lookup(&zero);
	if (cpu)
		cpu->lost[what]++;
}

static __always_inline struct live *find(__u64 skb)
{
	struct live *p = live.lookup(&skb);
	return p && p->alive ? p : 0;
}

static __always_inline void keep(__u64 skb, struct live *p)
{
	__u32 zero = 0;
	__u64 *count = entries.lookup(&zero);
	if (live.update(&skb, p))
		count_lost(LOST_TABLE_FULL);
	else if (count)
		__sync_fetch_and_add(count, 1);
}

/*
 * The packet has ended. Its address will soon be another one's, so its entry stays and is used
 * again in place, which spares that one an insertion; unless a quarter of the table is taken.
 */
static __always_inline void forget(__u64 skb, struct live *p)
{
	__u32 zero = 0;
	__u64 *count = entries.lookup(&zero);
	p->alive = 0;
	if (count && *count * 4 > SKBTRACE_LIVE && !live.delete(&skb))
		__sync_fetch_and_add(count, -1);
}

/* Nobody is woken: user space looks twenty times a second, which costs a packet nothing. */
static __always_inline void send(struct live *p)
{
	__u64 slots = p->record.slots;
	if (slots > SKBTRACE_SLOTS)
		slots = SKBTRACE_SLOTS;
	if (records.ringbuf_output(&p->record, RECORD_FIXED + slots * sizeof(struct skbtrace_hop),
				   BPF_RB_NO_WAKEUP))
		count_lost(LOST_RING_FULL);
}

/*
 * Is there room for so many slots, at this time? If not, a chunk is sent and the record begins
 * again. The last two slots are kept for the drop and the free, which then need no chunk.
 */
static __always_inline bool make_room(struct live *p, __u64 now, __u32 slots)
{
	struct skbtrace_record *record = &p->record;

	if (record->slots + slots <= SKBTRACE_SLOTS - 2 && now - record->base_ns <= DT_MAX)
		return true;
	if (record->chunk == 0xffff) {
		count_lost(LOST_HOP_LIMIT);
		return false;
	}
	send(p);
	record->chunk++;
	record->slots = 0;
	record->base_ns = now;
	return true;
}

static __always_inline struct skbtrace_hop *next_slot(struct live *p)
{
	__u64 n = p->record.slots;
	if (n >= SKBTRACE_SLOTS)
		return 0;
	p->record.slots = n + 1;
	return &p->record.slot[n];
}

static __always_inline void note(struct live *p, __u8 kind, __u64 value, __u32 word)
{
	struct skbtrace_note *slot = (struct skbtrace_note *)next_slot(p);
	if (!slot)
		return;
	slot->word = word;
	slot->probe = SKBTRACE_NOTE;
	slot->kind = kind;
	slot->cpu = 0;
	slot->value = value;
	slot->unused = 0;
}

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

static __always_inline void add_hop(struct live *p, __u64 now, __u32 probe, __u32 final, __u64 skb,
				    bool same, __u8 flags, __u32 arg)
{
	struct skbtrace_hop *slot = next_slot(p);
	if (!slot)
		return;
	if (!same) {
		__u64 dev = skb_dev(skb);
		if (dev != p->dev)
			see_device(p, dev);
		p->len = skb_len(skb);
	}
	fill(slot, p, now, probe, flags, arg);
	p->last = probe;
	p->final = final;
}

/*
 * First sight of a packet: begin its record, with its first hop, in the entry that an earlier packet
 * left at this address, else in the CPU's fresh one, which is then kept. A program of its own,
 * reached by a tail call, so that it is compiled once and not for every probe.
 */
int skbtrace_begin(struct pt_regs *ctx)
{
	__u32 zero = 0;
	__u32 *on = tracing.lookup(&zero);
	if (!on || !*on)
		return 0;
	struct cpu_state *cpu = cpus.lookup(&zero);
	if (!cpu)
		return 0;
	__u64 skb = cpu->first_skb;
	struct live *p = live.lookup(&skb);
	bool fresh = !p;
	if (!p)
		p = &cpu->fresh;
	see_device(p, skb_dev(skb));
#ifdef SKBTRACE_SCOPED
	__u64 place = (__u64)p->netns << 32 | p->ifindex;
	if (!scope.lookup(&place))
		return 0;
#endif
	p->record.id = ++cpu->number * SKBTRACE_CPUS + bpf_get_smp_processor_id();
	p->record.parent = 0;
	p->record.skb = skb;
	p->record.base_ns = cpu->first_ns;
	p->record.chunk = 0;
	p->record.slots = 1;
	p->record.flags = 0;
	read_headers(&p->record, skb);
	p->len = skb_len(skb);
	p->last = cpu->first_probe;
	p->final = cpu->first_final;
	p->alive = 1;
	fill(&p->record.slot[0], p, cpu->first_ns, p->last, 0, cpu->first_arg);
	if (fresh)
		keep(skb, p);
	return 0;
}

static __always_inline void begin(struct pt_regs *ctx, __u64 now, __u32 probe, __u32 final,
				  __u64 skb, __u32 arg)
{
	__u32 zero = 0;
	struct cpu_state *cpu = cpus.lookup(&zero);
	if (!cpu)
		return;
	cpu->first_skb = skb;
	cpu->first_ns = now;
	cpu->first_probe = probe;
	cpu->first_final = final;
	cpu->first_arg = arg;
	begins.call(ctx, 0);
}

/* The free was missed, another packet has the address: what is known is handed over. */
static __always_inline void end_unseen(struct live *p)
{
	p->record.flags |= SKBTRACE_END_MISSED | SKBTRACE_LAST;
	count_lost(LOST_END_MISSED);
	send(p);
}

/*
 * A transmit, queue, receive or bridge function: may be the first sight of a packet.
 * `same`: the function before was this one's caller or its queue, so the device and the length
 * are what they were and are not read again.
 */
static __always_inline void pass(struct pt_regs *ctx, struct live *p, __u64 now, __u32 probe,
				 __u32 final, __u64 skb, bool same, __u8 flags, __u32 arg)
{
	if (p && p->final && !flags) {
		/* No packet comes here from there: this is another one at the same address. */
		end_unseen(p);
		p->alive = 0;
		p = 0;
	}
	if (!p)
		begin(ctx, now, probe, final, skb, arg);
	else if (make_room(p, now, 1))
		add_hop(p, now, probe, final, skb, same, flags, arg);
}

static __always_inline void hop_skb(struct pt_regs *ctx, __u32 probe, __u32 final, __u64 skb,
				    __u32 arg)
{
	struct live *p = find(skb);
	pass(ctx, p, bpf_ktime_get_ns(), probe, final, skb, false, 0, arg);
}
#define hop(ctx, probe, final, skb) hop_skb(ctx, probe, final, skb, 0)
#define xmit hop
#define enqueue(ctx, probe, final, skb) hop_skb(ctx, probe, final, skb, SKBTRACE_REG2(ctx))

/* process_backlog has no skb; remember when it began to serve this CPU's queue. */
static __always_inline void serve_cpu(void)
{
	__u32 zero = 0;
	struct cpu_state *cpu = cpus.lookup(&zero);
	if (cpu)
		cpu->serve_ns = bpf_ktime_get_ns();
}
#define serve(ctx, probe, final, skb) serve_cpu()

/*
 * Only process_backlog takes a packet from an input queue, so the first receive after the
 * enqueue is its dequeue, by the call that is running on this CPU. Matched by skb, never by
 * position: two CPUs racing to one queue are dequeued in swapped order.
 */
static __always_inline void receive_skb(struct pt_regs *ctx, __u32 probe, __u32 final, __u64 skb)
{
	struct live *p = find(skb);
	__u64 now = bpf_ktime_get_ns();
	bool dequeued = p && p->last == SKBTRACE_ENQUEUE;
	__u64 age = 0;
	__u8 flags = 0;

	if (dequeued) {
		__u32 zero = 0;
		struct cpu_state *cpu = cpus.lookup(&zero);
		flags = SKBTRACE_HOP_DEQUEUED;
		if (cpu && cpu->serve_ns) {
			age = now - cpu->serve_ns;
			if (age > DT_MAX)
				age = DT_MAX;
			flags |= SKBTRACE_HOP_AGE_KNOWN;
		}
	}
	pass(ctx, p, now, probe, final, skb, dequeued, flags, age);
}
#define receive(ctx, probe, final, skb) receive_skb(ctx, probe, final, skb)

/* A function that is never the first to see a packet: only those that are followed already. */
static __always_inline struct live *reach_skb(__u32 probe, __u32 final, __u64 skb, bool called)
{
	struct live *p = find(skb);
	if (!p)
		return 0;
	__u64 now = bpf_ktime_get_ns();
	if (make_room(p, now, 1))
		add_hop(p, now, probe, final, skb, called && p->last == SKBTRACE_XMIT, 0, 0);
	return p;
}
#define reach(ctx, probe, final, skb) reach_skb(probe, final, skb, false)
/* veth_xmit calls __dev_forward_skb with the skb as it was given. */
#define forward(ctx, probe, final, skb) reach_skb(probe, final, skb, true)

/*
 * A socket takes the packet. If it is a clone, its parent must know: the parent's own free
 * may look like a drop (an echo reply that a raw socket took ends as NO_SOCKET).
 */
static __always_inline void queue_skb(__u32 probe, __u32 final, __u64 skb)
{
	struct live *p = reach_skb(probe, final, skb, false);
	if (!p || !p->record.parent)
		return;
	__u64 parent_skb = p->parent_skb;
	struct live *parent = find(parent_skb);
	if (parent && parent->record.id == p->record.parent)
		parent->record.flags |= SKBTRACE_CLONE_QUEUED;
}
#define queue(ctx, probe, final, skb) queue_skb(probe, final, skb)

/*
 * skb_clone: the entry knows the parent, the return knows the clone. They are matched on
 * this CPU by skb->head, which a clone shares; an interrupt that clones in between is
 * told apart by it, and the clone then missed is counted.
 */
static __always_inline void clone_skb(__u64 skb)
{
	__u32 zero = 0;
	struct cpu_state *cpu;

	if (!find(skb))
		return;
	cpu = cpus.lookup(&zero);
	if (!cpu)
		return;
	if (cpu->clone_parent)
		cpu->lost[LOST_CLONE_MISSED]++;
	cpu->clone_parent = skb;
	cpu->clone_head = skb_head(skb);
}
#define clone(ctx, probe, final, skb) clone_skb(skb)

static __always_inline void cloned_skb(__u64 skb)
{
	__u32 zero = 0;
	struct cpu_state *cpu = cpus.lookup(&zero);

	if (!cpu || !cpu->clone_parent)
		return;
	if (!skb) { /* out of memory: there is no clone */
		cpu->clone_parent = 0;
		return;
	}
	if (skb_head(skb) != cpu->clone_head)
		return;
	__u64 parent_skb = cpu->clone_parent;
	cpu->clone_parent = 0;
	struct live *parent = find(parent_skb);
	if (!parent)
		return;
	__u64 now = bpf_ktime_get_ns();
	if (!make_room(parent, now, 2))
		return;
	add_hop(parent, now, SKBTRACE_CLONE, 0, parent_skb, false, 0, 0);

	struct live *p = live.lookup(&skb);
	bool fresh = !p;
	if (!p)
		p = &cpu->fresh;
	else if (p->alive)
		end_unseen(p);
	p->dev = parent->dev;
	p->parent_skb = parent_skb;
	p->ifindex = parent->ifindex;
	p->netns = parent->netns;
	p->len = parent->len;
	p->last = SKBTRACE_CLONE;
	p->final = 0;
	p->alive = 1;
	__builtin_memcpy(&p->record, &parent->record, RECORD_FIXED);
	p->record.id = ++cpu->number * SKBTRACE_CPUS + bpf_get_smp_processor_id();
	p->record.parent = parent->record.id;
	p->record.skb = skb;
	p->record.base_ns = now;
	p->record.chunk = 0;
	p->record.slots = 1;
	p->record.flags = 0;
	fill(&p->record.slot[0], p, now, SKBTRACE_CLONE, 0, 0);
	note(parent, SKBTRACE_NOTE_CLONE, p->record.id, 0);
	if (fresh)
		keep(skb, p);
}
#define cloned(ctx, probe, final, skb) cloned_skb(SKBTRACE_RESULT(ctx))

/* The kfree_skb tracepoint: args are skb, location and, since 5.17, reason. */
static __always_inline void drop_skb(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 skb = ctx->args[0];
	struct live *p = find(skb);
	if (!p)
		return;
	__u32 reason = SKBTRACE_NO_REASON;
#if SKBTRACE_KFREE_ARGS > 2
	reason = ctx->args[2];
#endif
	note(p, SKBTRACE_NOTE_DROP, ctx->args[1], reason);
}
#define drop(ctx, probe, final, skb) drop_skb(ctx)

/*
 * A free. skb_release_head_state sees each exactly once, also those no tracepoint sees, but for
 * datagrams whose head state went before they were read: __consume_stateless_skb frees those.
 */
static __always_inline void end_skb(__u32 probe, __u64 skb)
{
	struct live *p = find(skb);
	if (!p)
		return;
	struct skbtrace_hop *slot = next_slot(p);
	if (slot) {
		/* The skb is being torn down: neither device nor length is read any more. */
		__u64 now = bpf_ktime_get_ns();
		if (now < p->record.base_ns) /* clocks of two CPUs */
			now = p->record.base_ns;
		p->ifindex = 0;
		p->netns = 0;
		/* It may have waited for its reader longer than dt_ns can say: arg is the upper half. */
		fill(slot, p, now, probe, 0, (now - p->record.base_ns) >> 32);
	}
	p->record.flags |= SKBTRACE_LAST;
	send(p);
	forget(skb, p);
}
#define end(ctx, probe, final, skb) end_skb(probe, skb)

/* The attach points: one thin function per row of the table, named by its position. */
#define kprobe_point(n, handler, skb, final)                                                       \
	int skbtrace_##n(struct pt_regs *ctx)                                                      \
	{                                                                                          \
		handler(ctx, n, final, skb(ctx));                                                  \
		return 0;                                                                          \
	}
#define kretprobe_point kprobe_point
#define raw_tracepoint_point(n, handler, skb, final)                                               \
	int skbtrace_##n(struct bpf_raw_tracepoint_args *ctx)                                      \
	{                                                                                          \
		handler(ctx, n, final, 0);                                                         \
		return 0;                                                                          \
	}
#define attach_point(n, attach, handler, skb, final) attach##_point(n, handler, skb, final)
SKBTRACE_PROBES(attach_point)
