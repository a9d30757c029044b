// SPDX-License-Identifier: GPL-2.0-only
/*
 * skbtrace: one record per living packet.
 *
 * Each probed function appends a hop to the record of its skb; the record is sent once, when
 * the skb is freed, or in chunks when its slots are full. The key is the skb's address; it is
 * free again at once, for the address is used again within microseconds.
 *
 * Map operations stand in this file only (bcc rewrites no other). What was chosen of the probe
 * table, tracer/probes.py, is expanded at the foot: X(position, attach, function, skb, handler,
 * final). The probes in every packet's way hold their whole handler; the others are a few
 * instructions that hand on to a program that they share, so that it is compiled once.
 *
 * From the command line come SKBTRACE_CPUS, SKBTRACE_LIVE, SKBTRACE_RING_PAGES,
 * SKBTRACE_KFREE_ARGS, SKBTRACE_STEPS (0: how long steps take is not counted), all OFF_*; if this
 * kernel can: SKBTRACE_TYPED (some rows are fentry, fexit or tp_btf), SKBTRACE_GET_FUNC_ARG; and, if
 * it was asked for: SKBTRACE_SCOPED (only some devices may start a journey), SKBTRACE_CHANGES (note
 * what is different at each hop), SKBTRACE_NETFILTER, SKBTRACE_SNAPLEN (keep so many of a packet's
 * first bytes), SKBTRACE_FILTER (see filter.h), what wanted.h tells,
 * SKBTRACE_SAMPLE, SKBTRACE_MAX_RATE_NS, SKBTRACE_PER_FLOW_NS (not every packet is followed:
 * SKBTRACE_PASSES_OVER), SKBTRACE_TRIGGER_NS (not every journey is sent).
 */
#include "record.h"
#include "steps.h"
#include "skb.h"
#include "filter.h"
#include "wanted.h"
#include "live.h"
#include "nft.h"
#include "drop.h"
#include "limit.h"

/* For bcc. The helpers that read the kernel's memory are for GPL programs only. */
#define BPF_LICENSE GPL

/* Loss counters, in the order of tracer/wire.py's LOSSES. */
enum lost {
	LOST_RING_FULL,
	LOST_TABLE_FULL,
	LOST_END_MISSED,
	LOST_CLONE_MISSED,
	LOST_HOP_LIMIT,
	LOSSES,
};

/* Packets that were not followed and journeys that were not sent, and why: wire.py's PASSED. */
enum passed {
	PASSED_NOT,
	PASSED_FILTER,
	PASSED_SAMPLE,
	PASSED_MAX_RATE,
	PASSED_PER_FLOW,
	PASSED_TRIGGER,
	PASSED_COUNTS,
	PASSED_WITH_PARENT = PASSED_COUNTS, /* what it was made of was: counted there */
};

/* More than tracer/probes.py has rows. */
#define PROBES_MAX 128

/* What one program hands on to the next: a hop, and a note on it. */
struct hit {
	__u64 skb;
	__u64 now;
	__u32 probe;
	__u32 final;
	__u32 arg;
	__u32 slot;   /* of the packet, if it is followed */
	bool starts;  /* may be the first to see the packet */
	bool arrives; /* a device has received it */
	bool chain;   /* what was made is a list */
	__u8 kind;    /* of the note, or 0 */
	__u32 word;
	__u16 half;
	__u64 value;
	__u64 more;
	__u64 made; /* what was made of the packet, if anything was */
	__u64 port; /* the bridge port that it is sent to */
	__u64 busy; /* fentry: 1 while the next program has not taken it */
	__u64 dev;  /* fentry: its device, if it has one already */
	__u32 ifindex;
	__u32 netns;
	__u64 how;	      /* fentry: enum how, what is known of its address */
	struct layout layout; /* of a packet that is seen first */
};

/* A function that makes skbs and is under way on this CPU. */
struct maker {
	__u64 parent; /* the skb it was given, 0 if it is not under way */
	__u64 stack;  /* where its return address lies: tells its return from another call's */
};
#define RETURN_ADDRESS 8 /* bytes: a kretprobe's stack begins behind it */

/* An expression of nftables that is under way on this CPU, and may give a verdict. */
struct judge {
	__u64 skb; /* 0 if it is not under way */
	__u64 stack;
	__u64 expression;
	__u64 registers;
};

/*
 * What belongs to a CPU. Kprobes do not nest on a CPU (kprobe_running), so this is safe. A
 * tracepoint may fire in an interrupt in the middle of one, so its programs have another; so have
 * those by fentry and tp_btf. These nest in each other, but none in itself: what two of them write
 * is claimed first (`busy`), or added to in one go. By fexit there is one only.
 */
struct cpu_state {
	__u64 number;	/* of journeys begun here */
	__u64 serve_ns; /* when the last process_backlog call began here; kprobes' only */
	__u64 beside;	/* packets that ended beside the topology */
	__u64 missed;	/* of these, hits in the middle of another one's */
	__u64 hits[PROBES_MAX];
	__u64 passed[PASSED_COUNTS];
	__u64 lost[LOSSES];
	struct maker makers[SKBTRACE_MAKERS];
	struct judge judge;
	struct hit hit;
	struct walk walk;
	__u64 base;		     /* of its variables; 0: see base_of() */
	__u64 number_of[PROBES_MAX]; /* fentry: see number_of() */
};

/* Whose struct cpu_state. */
enum context {
	KPROBE,
	TRACEPOINT,
	FENTRY,
	FEXIT,
	CONTEXTS,
};

/* Programs that others hand on to. */
enum program {
	BEGIN,
	PASS,
	BRANCH,
	PASS_BRANCH, /* if packets are passed over */
	PROGRAMS,
};

/*
 * The packets by their addresses: a table of our own, for every hop looks a packet up and most of
 * what a hash of the kernel's takes for that is its hash function. An address belongs to one of two
 * rows; a word of a row is an address and, in the bits that an address has not, enum how. The slot
 * of `live` belongs to the word. An ended packet's word stays, for the next packet at its address.
 */
#define WAYS 8
#define ROWS (SKBTRACE_LIVE / WAYS)
struct row {
	__u64 word[WAYS];
	__u32 slot[WAYS]; /* of the word, known once it was taken: see slot_of() */
};
BPF_ARRAY(rows, struct row, ROWS);
BPF_ARRAY(taking, __u32, ROWS); /* who is about to take a word of that row */
BPF_ARRAY(live, struct live, SKBTRACE_LIVE);
BPF_PERCPU_ARRAY(cpus, struct cpu_state, CONTEXTS);
BPF_ARRAY(tracing, __u32, 1);
/* A packet that a device beside the topology receives is kept if it comes there. */
#define WITHIN 1
#define BESIDE 2
#ifdef SKBTRACE_SCOPED
/* Device → where it is. */
BPF_HASH(scope, __u64, __u8, 16384);
#endif
#ifdef SKBTRACE_SAMPLE
BPF_ARRAY(chance, __u64, 1); /* of a packet to be followed, in 2^-32 */
#endif
#ifdef SKBTRACE_MAX_RATE_NS
BPF_ARRAY(rate, __u64, 1); /* when the next one may begin: see may_begin() */
#endif
#ifdef SKBTRACE_PER_FLOW_NS
BPF_TABLE("lru_hash", __u64, __u64, flows, 16384); /* the same for each */
#endif
BPF_HASH(ends, struct skbtrace_end, struct skbtrace_end_count, 8192);
#if SKBTRACE_STEPS
/*
 * How long steps took, in SKBTRACE_STEPS rows for each CPU. A row is given to a pair of functions
 * when a packet first goes from one to the other; the first rows, one for each context, are for
 * those that find none left.
 */
BPF_PERCPU_ARRAY(steps, struct skbtrace_step, SKBTRACE_STEPS);
BPF_HASH(step_pairs, __u32, __u32, SKBTRACE_STEPS); /* row → pair */
BPF_ARRAY(step_rows_given, __u32, 1);
/* Pair → row, 0 if it has none. One value, for then a program need not check where it lies. */
struct step_rows {
	__u16 row[PROBES_MAX * PROBES_MAX];
};
BPF_ARRAY(step_rows, struct step_rows, 1);
#endif
BPF_PROG_ARRAY(programs, PROGRAMS);
#ifdef SKBTRACE_RAW_BEGIN
BPF_PROG_ARRAY(raw_programs, 1);
#endif
BPF_RINGBUF_OUTPUT(records, SKBTRACE_RING_PAGES);
#ifdef SKBTRACE_NETFILTER
/* A chain of nftables or a table of iptables that packets went through, and what it is called. */
struct table_key {
	__u64 address;
	__u64 made; /* tells it from one that lay at the same address before */
};
struct table {
	char table[32];
	char chain[32]; /* empty for iptables: it is called as the hook */
	__u32 family;
	__u32 hook; /* of a base chain, else NO_HOOK */
};
#define NO_HOOK 0xff
BPF_HASH(tables, struct table_key, struct table, 4096);
#endif

static __always_inline struct cpu_state *state_of(enum context context)
{
	__u32 key = context;
	return cpus.lookup(&key);
}

static __always_inline bool is_tracing(void)
{
	__u32 zero = 0;
	__u32 *on = tracing.lookup(&zero);
	return on && *on;
}

static __always_inline void count_lost(enum lost what)
{
	struct cpu_state *cpu = state_of(KPROBE);
	if (cpu)
		__sync_fetch_and_add(&cpu->lost[what], 1);
}

static __always_inline void count_end(struct live *p, __u32 netns, __u32 ifindex)
{
	struct skbtrace_end key = {};
	struct skbtrace_end_count none = {};

	if (p->beside)
		return;
	key.drop_at = p->drop_at;
	key.drop_reason = p->drop_reason;
	key.netns = netns;
	key.ifindex = ifindex;
	key.probe = p->last;
	key.branch = p->record.parent != 0;
	/* What a socket has taken a clone of is freed as if nobody had wanted it. */
	key.dropped = p->dropped && !(p->record.flags & SKBTRACE_CLONE_QUEUED);
	struct skbtrace_end_count *count = ends.lookup_or_try_init(&key, &none);
	if (!count) {
		struct skbtrace_end other = {.probe = SKBTRACE_END_OTHER};
		count = ends.lookup(&other);
	}
	if (!count)
		return;
	__sync_fetch_and_add(&count->packets, 1);
	__sync_fetch_and_add(&count->bytes, p->len);
}

#if SKBTRACE_STEPS
/*
 * A row for a pair that has none. Two CPUs may want the same one: that `step_pairs` takes it only
 * once decides. If both want it for the same pair, that one has two, and user space adds them up.
 */
#define ROWS_TRIED 16
static __always_inline __u32 new_row(enum context context, struct step_rows *rows, __u32 pair)
{
	__u32 zero = 0;
	__u32 *given = step_rows_given.lookup(&zero);
	if (!given)
		return context;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < ROWS_TRIED; i++) {
		__u32 row = CONTEXTS + *given + i;
		if (row >= SKBTRACE_STEPS)
			break;
		if (step_pairs.insert(&row, &pair))
			continue;
		__sync_fetch_and_add(given, 1);
		rows->row[pair & (PROBES_MAX * PROBES_MAX - 1)] = row;
		return row;
	}
	return context;
}

static __always_inline void count_step(enum context context, __u32 from, __u32 to, __u64 ns)
{
	__u32 zero = 0;
	__u32 pair = (from * PROBES_MAX + to) & (PROBES_MAX * PROBES_MAX - 1);
	struct step_rows *rows = step_rows.lookup(&zero);
	if (!rows)
		return;
	__u32 row = rows->row[pair];
	if (!row)
		row = new_row(context, rows, pair);
	struct skbtrace_step *step = steps.lookup(&row);
	if (!step)
		return;
	__u32 class = step_class(ns) & (SKBTRACE_STEP_CLASSES - 1);
	/* A row is written by one program only, but for the first ones: see attach_point. */
	if (context != TRACEPOINT && (context == KPROBE || row >= CONTEXTS)) {
		step->classes[class]++;
		step->total_ns += ns;
	} else {
		__sync_fetch_and_add(&step->classes[class], 1);
		__sync_fetch_and_add(&step->total_ns, ns);
	}
	if (ns > step->longest_ns)
		step->longest_ns = ns;
}
#else
#define count_step(context, from, to, ns)
#endif

/*
 * A packet comes to its next hop: count how long the step took. To be called before the hop is
 * added. Clocks of two CPUs may differ by a little: time does not run backwards then. What is
 * beside the topology is not counted until it comes there.
 */
static __always_inline void step_to(enum context context, struct live *p, __u64 now, __u32 probe)
{
	__u64 ns = 0;
	if (now > p->last_ns) {
		ns = now - p->last_ns;
		p->last_ns = now;
	}
	if (!p->beside)
		count_step(context, p->last, probe, ns);
}

/* What is known of an address. source.py knows the first two. */
enum how {
	ENDED, /* or nobody has had this word yet */
	FOLLOWED,
	PASSED,	       /* the packet is passed over */
	PASSED_BESIDE, /* ... and it only counts if it comes to the topology */
	ABSENT = 8,
};
#define HOW 7ULL
#define NO_SLOT 0xffffffff

static __always_inline __u32 row_of(__u64 skb, int choice)
{
	return skb * 0x9E3779B97F4A7C15ULL >> (choice ? 20 : 40) & (ROWS - 1);
}

/*
 * From memory, though it is known: the verifier would look at all that follows once for each way,
 * if it knew that these numbers are different.
 */
static __always_inline __u32 slot_of(struct row *row, int way)
{
	return *(volatile __u32 *)&row->slot[way];
}

static __always_inline enum how look_up(__u64 skb, __u32 *slot)
{
#pragma unroll
	for (int choice = 0; choice < 2; choice++) {
		__u32 number = row_of(skb, choice);
		struct row *row = rows.lookup(&number);
		if (!row)
			return ABSENT;
#pragma unroll
		for (int way = 0; way < WAYS; way++) {
			__u64 how = row->word[way] ^ skb;
			if (how <= HOW) {
				*slot = slot_of(row, way);
				return how;
			}
		}
	}
	return ABSENT;
}

/* The packet that is followed at this address. */
static __always_inline struct live *find(__u64 skb)
{
	__u32 slot = 0;
	return look_up(skb, &slot) == FOLLOWED ? live.lookup(&slot) : 0;
}

/* Say so of a packet that has this slot. Nobody else changes its word. */
static __always_inline void mark(__u32 slot, __u64 skb, enum how how)
{
	__u32 number = slot / WAYS;
	struct row *row = rows.lookup(&number);
	if (row)
		row->word[slot % WAYS] = skb | how;
}

/*
 * Take a slot whose packet has ended, if nobody else is about to take one of that row: every kernel
 * can add in one go, not every one can compare and exchange. On x86 that is a barrier, too.
 */
static __always_inline bool take_slot(__u32 slot, __u64 was, __u64 skb)
{
	__u32 number = slot / WAYS;
	__u32 *takers = taking.lookup(&number);
	if (!takers)
		return false;
	struct row *row = rows.lookup(&number);
	if (!row)
		return false;
	volatile __u64 *word = &row->word[slot % WAYS];
	bool taken = false;
	__sync_fetch_and_add(takers, 1);
	if (*(volatile __u32 *)takers == 1 && *word == was) {
		*word = skb | FOLLOWED;
		taken = true;
	}
	__sync_fetch_and_add(takers, -1);
	return taken;
}

/* Any slot that is free for a packet that has had none at its address. */
static __always_inline __u32 free_slot(__u64 skb, __u64 *was)
{
#pragma unroll
	for (int choice = 0; choice < 2; choice++) {
		__u32 number = row_of(skb, choice);
		struct row *row = rows.lookup(&number);
		if (!row)
			return NO_SLOT;
#pragma unroll
		for (int way = 0; way < WAYS; way++) {
			*was = row->word[way];
			if ((*was & HOW) == ENDED) {
				row->slot[way] = number * WAYS + way;
				return slot_of(row, way);
			}
		}
	}
	return NO_SLOT;
}

/* What look_up() has found of a packet that is not followed: give it a slot. */
static __always_inline struct live *take(__u64 skb, enum how how, __u32 slot)
{
	__u64 was = skb;
	if (how == ABSENT)
		slot = free_slot(skb, &was);
	/* Once more, for another CPU may just have been at that row. */
	if (slot == NO_SLOT || !(take_slot(slot, was, skb) || take_slot(slot, was, skb))) {
		count_lost(LOST_TABLE_FULL);
		return 0;
	}
	struct live *p = live.lookup(&slot);
	if (p)
		p->slot = slot;
	return p;
}

#ifdef SKBTRACE_SCOPED
static __always_inline __u8 place_of(__u32 netns, __u32 ifindex)
{
	__u64 key = (__u64)netns << 32 | ifindex;
	__u8 *place = scope.lookup(&key);
	return place ? *place : 0;
}

/* A packet that has been beside the topology so far: has it come to one of its devices now? */
static __always_inline void come_within(struct live *p)
{
	if (p->beside && place_of(p->netns, p->ifindex) == WITHIN)
		p->beside = 0;
}

static __always_inline void count_beside(__u64 parent)
{
	struct cpu_state *cpu = state_of(KPROBE);
	if (cpu && !parent)
		__sync_fetch_and_add(&cpu->beside, 1);
}
#else
#define come_within(p)
#define count_beside(parent)
#endif

#if defined(SKBTRACE_PASSES_OVER) || defined(SKBTRACE_TRIGGER_NS)
static __always_inline void count_passed(__u32 why)
{
	struct cpu_state *cpu = state_of(KPROBE);
	if (cpu && why < PASSED_COUNTS)
		__sync_fetch_and_add(&cpu->passed[why], 1);
}
#endif

#ifdef SKBTRACE_PASSES_OVER
/*
 * A packet that is not followed has a slot, too. Otherwise its later hops would begin a journey in
 * its middle.
 */
static __always_inline void pass_over(struct live *p, __u64 skb, __u32 why)
{
	p->passed = why;
	mark(p->slot, skb, p->beside ? PASSED_BESIDE : PASSED);
	if (!p->beside)
		count_passed(why);
}

/* One that was passed over beside the topology is met again: has it come there? */
static __always_inline void pass_on(__u64 skb, __u32 slot)
{
#ifdef SKBTRACE_SCOPED
	struct live *p = live.lookup(&slot);
	if (!p)
		return;
	see_device(p, device_of(p, skb));
	come_within(p);
	if (p->beside)
		return;
	count_passed(p->passed);
	mark(slot, skb, PASSED);
#endif
}

#define is_passed(how) ((how) == PASSED || (how) == PASSED_BESIDE)
/* Nothing that it meets until its free can change that. */
#define is_refused(how) ((how) == PASSED)

/* It has ended. */
static __always_inline void pass_away(__u64 skb, __u32 slot, enum how how)
{
	if (how == PASSED_BESIDE)
		count_beside(0);
	mark(slot, skb, ENDED);
}

/* At first sight. What is made of a packet goes with it: see skbtrace_branch(). */
static __always_inline enum choice decide(struct live *p, __u64 skb, const struct headers *at,
					  const struct layout *of, __u64 now, bool arrives)
{
	__u32 zero = 0;
	__u32 why = PASSED_NOT;
	if (!is_wanted(skb, arrives))
		why = PASSED_FILTER;
#ifdef SKBTRACE_FILTER
	switch (why ? REFUSE : chosen(at, of, skb)) {
	case TAKE:
		break;
	case REFUSE:
		why = PASSED_FILTER;
		break;
	case LATER:
		mark(p->slot, skb, ENDED);
		return LATER;
	}
#endif
#ifdef SKBTRACE_SAMPLE
	__u64 *share = chance.lookup(&zero);
	if (!why && share && bpf_get_prandom_u32() >= *share)
		why = PASSED_SAMPLE;
#endif
#ifdef SKBTRACE_PER_FLOW_NS
	if (!why) {
		read_headers(&p->record, at, of);
		__u64 flow = flow_of(&p->record);
		__u64 *next = flows.lookup_or_try_init(&flow, &now);
		if (next && !may_begin(next, now, SKBTRACE_PER_FLOW_NS))
			why = PASSED_PER_FLOW;
	}
#endif
#ifdef SKBTRACE_MAX_RATE_NS
	__u64 *due = rate.lookup(&zero);
	if (!why && due && !may_begin(due, now, SKBTRACE_MAX_RATE_NS))
		why = PASSED_MAX_RATE;
#endif
	if (!why)
		return TAKE;
	pass_over(p, skb, why);
	return REFUSE;
}
#else
#define is_passed(how) false
#define is_refused(how) false
#define pass_over(p, skb, why)
#define pass_on(skb, slot)
#define pass_away(skb, slot, how)
#define decide(p, skb, at, of, now, arrives) TAKE
#endif

/* Nobody is woken: user space looks twenty times a second, which costs a packet nothing. */
static __always_inline void send(struct live *p, __u64 now)
{
	if (p->beside) {
		count_beside(p->record.parent);
		return;
	}
#ifdef SKBTRACE_TRIGGER_NS
	if (is_dull(p, now)) {
		count_passed(PASSED_TRIGGER);
		return;
	}
#endif
	__u64 slots = p->record.slots;
	if (slots > SKBTRACE_SLOTS)
		slots = SKBTRACE_SLOTS;
#ifdef SKBTRACE_SNAPLEN
	__u64 size = RECORD_FIXED + slots * sizeof(struct skbtrace_hop);
	if (records.ringbuf_output(&p->record, size + lay_bytes(p, size), BPF_RB_NO_WAKEUP))
#else
	if (records.ringbuf_output(&p->record, RECORD_FIXED + slots * sizeof(struct skbtrace_hop),
				   BPF_RB_NO_WAKEUP))
#endif
		count_lost(LOST_RING_FULL);
}

/*
 * Is there room for so many slots, at this time? If not, a chunk is sent and the record begins
 * again. The last slots are kept for the drop and the free, which then need no chunk.
 */
static __always_inline bool make_room(struct live *p, __u64 now, __u32 slots)
{
	struct skbtrace_record *record = &p->record;

	if (record->slots + slots <= SKBTRACE_SLOTS - SLOTS_END && now - record->base_ns <= DT_MAX)
		return true;
	if (record->chunk == 0xffff) {
		count_lost(LOST_HOP_LIMIT);
		return false;
	}
	p->beside = 0; /* too long to wait any more for where it goes */
	send(p, now);
	record->chunk++;
	record->slots = 0;
	record->base_ns = now;
	return true;
}

/* The free was missed, another packet has the address: what is known is handed over. */
static __always_inline void end_unseen(struct live *p)
{
	p->record.flags |= SKBTRACE_END_MISSED | SKBTRACE_LAST;
	count_end(p, p->netns, p->ifindex);
	count_lost(LOST_END_MISSED);
	send(p, 0);
	mark(p->slot, p->record.skb, ENDED);
}

#ifdef SKBTRACE_PREEMPT_COUNT
static __always_inline __u64 base_of(struct cpu_state *cpu)
{
	if (!cpu->base)
		cpu->base = this_base();
	return cpu->base;
}
#endif

/* On whose behalf, if a process is at work. */
static __always_inline void note_task(struct live *p, struct cpu_state *cpu, enum context context)
{
#ifdef SKBTRACE_PREEMPT_COUNT
	__u32 netns;
	if (is_interrupted(base_of(cpu)))
		return;
#ifdef SKBTRACE_GET_CURRENT_TASK_BTF
	if (context == FENTRY) {
		const void *task = current_task();
		if (load_u32(task, OFF_TASK_STRUCT_FLAGS) & PF_KTHREAD)
			return;
		netns = typed_task_netns(task);
	} else
#endif
	{
		if (is_kthread())
			return;
		netns = task_netns();
	}
	__u64 comm[2] = {};
	bpf_get_current_comm(comm, sizeof(comm));
	note(p, SKBTRACE_NOTE_TASK, bpf_get_current_pid_tgid() >> 32, 0, comm[0], comm[1]);
	if (netns && netns != p->netns)
		note(p, SKBTRACE_NOTE_TASK_NETNS, netns, 0, 0, 0);
#endif
}

/* Begin the record of a packet that is at the device p says: its headers, its first hop. */
static __always_inline void begin_record(struct live *p, struct cpu_state *cpu,
					 enum context context, __u64 skb, const struct headers *at,
					 const struct layout *of, __u64 now, __u32 probe,
					 __u32 final, __u32 arg)
{
	__u64 number = ++cpu->number * CONTEXTS + context;
	p->record.id = number * SKBTRACE_CPUS + bpf_get_smp_processor_id();
	p->record.parent = 0;
	p->record.skb = skb;
	p->record.base_ns = now;
	p->record.chunk = 0;
	p->record.slots = 1;
	p->record.flags = 0;
	p->record.state = 0;
	read_headers(&p->record, at, of);
#ifdef SKBTRACE_SNAPLEN
	keep_bytes(p, at, of);
#endif
#ifdef SKBTRACE_CHANGES
	struct window w;
	bpf_probe_read_kernel(w.word, sizeof(w.word), (void *)(skb + SKB_FIRST));
	see_state(p, &w, true);
	p->seen.eth[0] = 0;
	p->seen.eth[1] = 0;
	p->seen.ttl = 0;
	see_headers(p, &w, true);
#endif
	p->len = of->len;
	p->last = probe;
	p->last_ns = now;
	p->final = final;
	p->arg = arg;
	p->sk = 0;
	p->port = 0;
	p->tap = NO_TAP;
	p->dropped = 0;
	p->drop_reason = SKBTRACE_NO_REASON;
	p->drop_at = 0;
	fill(&p->record.slot[0], p, now, probe, 0, arg);
}

/* First sight of a packet, if it is one that is asked for. */
static __always_inline void begin_journey(enum context context)
{
	if (!is_tracing())
		return;
	struct cpu_state *cpu = state_of(context);
	if (!cpu)
		return;
	__u64 skb = cpu->hit.skb;
	__u32 slot = cpu->hit.slot;
	enum how how = context == FENTRY ? cpu->hit.how : look_up(skb, &slot);
	if (is_passed(how)) {
		pass_on(skb, slot);
		return;
	}
	__u64 dev = context == FENTRY ? cpu->hit.dev : skb_dev(skb);
	__u16 routed = !dev;
	__u32 ifindex = 0;
	__u32 netns = 0;
	if (routed)
		dev = dst_dev(skb_refdst(skb));
	if (context == FENTRY && !routed) {
		ifindex = cpu->hit.ifindex;
		netns = cpu->hit.netns;
	} else if (dev) {
		ifindex = dev_ifindex(dev);
		netns = dev_netns(dev);
	}
	__u8 place = WITHIN;
#ifdef SKBTRACE_SCOPED
	place = place_of(netns, ifindex);
	if (!place || (place == BESIDE && !cpu->hit.arrives))
		return;
#endif
	struct live *p = take(skb, how, slot);
	if (!p)
		return;
	p->dev = dev;
	p->ifindex = ifindex;
	p->netns = netns;
	p->routed = routed;
	p->beside = place == BESIDE;
	struct layout *of = &cpu->hit.layout;
	struct headers at;
	if (context != FENTRY)
		read_layout(of, skb);
	find_headers(&at, of);
	if (decide(p, skb, &at, of, cpu->hit.now, cpu->hit.arrives) != TAKE)
		return;
	begin_record(p, cpu, context, skb, &at, of, cpu->hit.now, cpu->hit.probe, cpu->hit.final,
		     cpu->hit.arg);
	p->port = cpu->hit.port;
	note_task(p, cpu, context);
}

int skbtrace_begin(struct pt_regs *ctx)
{
	begin_journey(KPROBE);
	return 0;
}

/* Begin to hand on a hop to the program that all share. Fill in the rest, then call it. */
static __always_inline struct hit *hand(struct cpu_state *cpu, __u32 probe, __u32 final, __u64 skb,
					__u32 slot)
{
	struct hit *hit = &cpu->hit;
	hit->skb = skb;
	hit->slot = slot;
	hit->now = bpf_ktime_get_ns();
	hit->probe = probe;
	hit->final = final;
	hit->arg = 0;
	hit->starts = false;
	hit->arrives = false;
	hit->kind = 0;
	hit->made = 0;
	hit->port = 0;
	return hit;
}

/* If no packet comes here from the last hop, this is another one at the same address. */
static __always_inline struct live *still(struct live *p)
{
	if (!p || !p->final)
		return p;
	end_unseen(p);
	return 0;
}

/* A packet that is followed has come to its next hop. */
static __always_inline void append(enum context context, struct live *p, __u64 now, __u32 probe,
				   __u32 final, __u64 skb, __u32 arg, __u64 port)
{
	step_to(context, p, now, probe);
	add_hop(p, now, probe, final, skb, 0, arg);
	come_within(p);
	p->port = port;
}

/* The program that all share: append the hop that was handed on. */
int skbtrace_pass(struct pt_regs *ctx)
{
	struct cpu_state *cpu = state_of(KPROBE);
	if (!cpu)
		return 0;
	struct hit *hit = &cpu->hit;
	__u64 skb = hit->skb;
	__u32 slot = hit->slot;
	struct live *p = live.lookup(&slot);
	if (hit->starts && !still(p)) {
		programs.call(ctx, BEGIN);
		return 0;
	}
	if (!p)
		return 0;
	if (!make_room(p, hit->now, SLOTS_HOP))
		return 0;
	append(KPROBE, p, hit->now, hit->probe, hit->final, skb, hit->arg, hit->port);
	if (hit->kind)
		note(p, hit->kind, hit->word, hit->half, hit->value, hit->more);
	if (hit->made)
		programs.call(ctx, BRANCH);
	return 0;
}

/*
 * A transmit, queue, receive or bridge function: may be the first sight of a packet. `arrives`: a
 * device has received it. `port`: of a bridge, looked at if it does not take the packet.
 */
static __always_inline void start_skb(struct pt_regs *ctx, struct cpu_state *cpu, __u32 probe,
				      __u32 final, __u64 skb, __u32 arg, bool arrives, __u64 port)
{
	__u32 slot = 0;
	enum how how = look_up(skb, &slot);
	if (is_refused(how))
		return;
	struct hit *hit = hand(cpu, probe, final, skb, slot);
	hit->starts = true;
	hit->arrives = arrives;
	hit->arg = arg;
	hit->port = port;
	if (how == FOLLOWED)
		programs.call(ctx, PASS);
	else
		programs.call(ctx, BEGIN);
}
#define start(ctx, cpu, probe, final, skb) start_skb(ctx, cpu, probe, final, skb, 0, false, 0)
#define xmit start
#define arrive_skb(ctx, cpu, probe, final, skb) start_skb(ctx, cpu, probe, final, skb, 0, true, 0)
/* enqueue_to_backlog(skb, cpu, ...) */
#define enqueue(ctx, cpu, probe, final, skb)                                                       \
	start_skb(ctx, cpu, probe, final, skb, SKBTRACE_REG2(ctx), false, 0)
/* br_forward(to, skb, ...) */
#define egress(ctx, cpu, probe, final, skb)                                                        \
	start_skb(ctx, cpu, probe, final, skb, 0, false, SKBTRACE_REG1(ctx))

/*
 * A driver has received it. That is a new packet, unless it came through a veth or a tunnel; never
 * from another driver's transmit or from GRO itself: then the end of the old one was missed.
 */
static __always_inline void gro_skb(struct pt_regs *ctx, struct cpu_state *cpu, __u32 probe,
				    __u32 final, __u64 skb)
{
	struct live *p = find(skb);
	if (p && (p->last == probe || p->last == SKBTRACE_DRIVER || p->last == SKBTRACE_MERGE))
		end_unseen(p);
	arrive_skb(ctx, cpu, probe, final, skb);
}
#define gro(ctx, cpu, probe, final, skb) gro_skb(ctx, cpu, probe, final, skb)

/* A function that is never the first to see a packet: only those that are followed already. */
static __always_inline void reach_skb(struct pt_regs *ctx, struct cpu_state *cpu, __u32 probe,
				      __u32 final, __u64 skb, __u32 arg)
{
	struct live *p = find(skb);
	if (!p)
		return;
	struct hit *hit = hand(cpu, probe, final, skb, p->slot);
	hit->arg = arg;
	programs.call(ctx, PASS);
}
#define reach(ctx, cpu, probe, final, skb) reach_skb(ctx, cpu, probe, final, skb, 0)

/*
 * process_backlog(napi, quota) has no skb; remember when it began to serve this CPU's queue, and
 * count how many packets wait there, as if that were a step of its own. `napi` lies beside the queue
 * in struct softnet_data.
 */
static __always_inline void serve_queue(enum context context, struct cpu_state *kprobes,
					__u32 probe, __u64 napi)
{
	kprobes->serve_ns = bpf_ktime_get_ns();
	if (is_tracing())
		count_step(context, probe, probe,
			   read_u32(napi - OFF_SOFTNET_DATA_BACKLOG +
				    OFF_SOFTNET_DATA_INPUT_PKT_QUEUE + OFF_SK_BUFF_HEAD_QLEN));
}
#define serve(ctx, cpu, probe, final, skb) serve_queue(KPROBE, cpu, probe, SKBTRACE_REG1(ctx))

/*
 * Only process_backlog takes a packet from an input queue, so the first receive after the
 * enqueue is its dequeue, by the call that is running on this CPU. Matched by skb, never by
 * position: two CPUs racing to one queue are dequeued in swapped order.
 */
static __always_inline void dequeue(enum context context, struct cpu_state *kprobes, struct live *p,
				    __u32 probe, __u32 final)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 age = 0;
	__u8 flags = SKBTRACE_HOP_DEQUEUED;

	if (kprobes->serve_ns) {
		age = now - kprobes->serve_ns;
		if (age > DT_MAX)
			age = DT_MAX;
		flags |= SKBTRACE_HOP_AGE_KNOWN;
	}
	/* The packet is what it was when it was queued, and is not read again. */
	if (!make_room(p, now, SLOTS_HOP))
		return;
	if (kprobes->serve_ns) { /* two steps: until process_backlog began, and behind others */
		step_to(context, p, now - age, SKBTRACE_SERVE);
		p->last = SKBTRACE_SERVE;
	}
	step_to(context, p, now, probe);
	add_same_hop(p, now, probe, final, flags, age);
}

static __always_inline void receive_skb(struct pt_regs *ctx, struct cpu_state *cpu, __u32 probe,
					__u32 final, __u64 skb)
{
	struct live *p = find(skb);
	if (p && p->last == SKBTRACE_ENQUEUE)
		dequeue(KPROBE, cpu, p, probe, final);
	else
		arrive_skb(ctx, cpu, probe, final, skb);
}
#define receive(ctx, cpu, probe, final, skb) receive_skb(ctx, cpu, probe, final, skb)

/* veth_xmit calls __dev_forward_skb with the skb as it was given. */
static __always_inline void forward_skb(struct pt_regs *ctx, struct cpu_state *cpu, __u32 probe,
					__u32 final, __u64 skb)
{
	struct live *p = find(skb);
	if (!p)
		return;
	if (p->last != SKBTRACE_XMIT) {
		reach_skb(ctx, cpu, probe, final, skb, 0);
		return;
	}
	__u64 now = bpf_ktime_get_ns();
	if (!make_room(p, now, SLOTS_HOP))
		return;
	step_to(KPROBE, p, now, probe);
	add_same_hop(p, now, probe, final, 0, 0);
}
#define forward(ctx, cpu, probe, final, skb) forward_skb(ctx, cpu, probe, final, skb)

#ifdef SKBTRACE_NETFILTER

#define NF_INET_LOCAL_OUT 3

/* The hook at which packets leave a socket's hands may be the first to see them. */
static __always_inline bool is_own(__u8 hook, __u8 family)
{
	return hook == NF_INET_LOCAL_OUT && (family == 2 || family == 10);
}

static __always_inline void hook_skb(struct pt_regs *ctx, struct cpu_state *cpu, __u32 probe,
				     __u32 final, __u64 skb)
{
	__u64 state = SKBTRACE_REG2(ctx);
	__u8 hook = read_u32(state + OFF_NF_HOOK_STATE_HOOK);
	__u8 family = read_u32(state + OFF_NF_HOOK_STATE_PF);
	__u32 arg = hook | (__u32)family << 8;

	if (is_own(hook, family))
		start_skb(ctx, cpu, probe, final, skb, arg, false, 0);
	else
		reach_skb(ctx, cpu, probe, final, skb, arg);
}
#define hook(ctx, cpu, probe, final, skb) hook_skb(ctx, cpu, probe, final, skb)

/* What the table is called is read when it is first met. */
static __always_inline bool known(struct table_key *key)
{
	return tables.lookup(key) != 0;
}

static __always_inline void table_skb(struct pt_regs *ctx, struct cpu_state *cpu, __u32 probe,
				      __u32 final, struct live *p, struct table_key *key)
{
	struct hit *hit = hand(cpu, probe, final, p->record.skb, p->slot);
	hit->kind = SKBTRACE_NOTE_TABLE;
	hit->word = 0;
	hit->half = 0;
	hit->value = key->address;
	hit->more = key->made;
	programs.call(ctx, PASS);
}

#ifdef OFF_NFT_CHAIN_HANDLE
/* Handles count what was made: tables in their namespace, chains in their table. */
static __always_inline struct table_key key_of(struct live *p, __u64 chain)
{
	__u64 table = read_u64(chain + OFF_NFT_CHAIN_TABLE);
	struct table_key key = {.address = chain};
	key.made = read_u64(chain + OFF_NFT_CHAIN_HANDLE);
	key.made += read_u64(table + OFF_NFT_TABLE_HANDLE) << 20;
	key.made += (__u64)p->netns << 40;
	return key;
}

static __always_inline void know_chain(struct table_key *key, bool base)
{
	__u64 chain = key->address;
	__u64 table = read_u64(chain + OFF_NFT_CHAIN_TABLE);
	struct table named = {};
	bpf_probe_read_kernel_str(named.table, sizeof(named.table),
				  (void *)read_u64(table + OFF_NFT_TABLE_NAME));
	bpf_probe_read_kernel_str(named.chain, sizeof(named.chain),
				  (void *)read_u64(chain + OFF_NFT_CHAIN_NAME));
	named.family = read_u32(table + OFF_NFT_TABLE_FAMILY) & 0x3f;
	named.hook = NO_HOOK;
	if (base) /* struct nft_base_chain begins with its struct nf_hook_ops */
		named.hook = read_u32(chain - OFF_NFT_BASE_CHAIN_CHAIN + OFF_NF_HOOK_OPS_HOOKNUM);
	tables.update(key, &named);
}
#endif

static __always_inline void nft_skb(struct pt_regs *ctx, struct cpu_state *cpu, __u32 probe,
				    __u32 final, __u64 skb)
{
	struct table_key key = {};
	struct live *p = find(skb);
	if (!p)
		return;
#ifdef OFF_NFT_CHAIN_HANDLE
	key = key_of(p, SKBTRACE_REG2(ctx));
	if (!known(&key))
		know_chain(&key, true);
	p->nft.chain[0] = key.address;
	p->nft.expression = 0;
	p->nft.code = NFT_CONTINUE;
	p->nft.jumps = 0;
#endif
	table_skb(ctx, cpu, probe, final, p, &key);
}
#define nft(ctx, cpu, probe, final, skb) nft_skb(ctx, cpu, probe, final, skb)

/* Up to 5.15 (skb, state, table), since then (table, skb, state): commit 8844e01062dd. */
static __always_inline void xt_skb(struct pt_regs *ctx, struct cpu_state *cpu, __u32 probe,
				   __u32 final)
{
	__u64 skb = SKBTRACE_REG1(ctx);
	struct table_key key = {};
	struct live *p = find(skb);
	key.address = SKBTRACE_REG3(ctx);
	if (!p) {
		key.address = skb;
		skb = SKBTRACE_REG2(ctx);
		p = find(skb);
		if (!p)
			return;
	}
	key.made = p->netns;
#ifdef OFF_XT_TABLE_NAME
	if (!known(&key)) {
		struct table named = {};
		bpf_probe_read_kernel_str(named.table, sizeof(named.table),
					  (void *)(key.address + OFF_XT_TABLE_NAME));
		named.family = read_u32(key.address + OFF_XT_TABLE_AF) & 0xff;
		named.hook = NO_HOOK;
		tables.update(&key, &named);
	}
#endif
	table_skb(ctx, cpu, probe, final, p, &key);
}
#define xt(ctx, cpu, probe, final, skb) xt_skb(ctx, cpu, probe, final)

/*
 * An expression of nftables gives a verdict, or loads a register: argument 3 is the pktinfo. It is
 * kept with the packet, and so are the chains it jumps to, until we know whether it was dropped.
 */
#ifdef OFF_NFT_CHAIN_HANDLE
static __always_inline void verdict_given(__u64 skb, __u64 expression, __s32 code, __u64 chain)
{
	struct live *p = find(skb);
	if (!p)
		return;
	p->nft.expression = expression;
	p->nft.code = code;
	if (code == NFT_JUMP || code == NFT_GOTO) {
		__u32 n = p->nft.jumps++;
		p->nft.chain[1 + (n & (NFT_JUMPS - 1))] = chain;
	}
}

static __always_inline void immediate_skb(struct pt_regs *ctx)
{
	__u64 given = SKBTRACE_REG1(ctx) + OFF_NFT_EXPR_DATA;
	if (read_u32(given + OFF_NFT_IMMEDIATE_EXPR_DREG) & 0xff) /* not NFT_REG_VERDICT */
		return;
	verdict_given(read_u64(SKBTRACE_REG3(ctx)), SKBTRACE_REG1(ctx), read_u32(given),
		      read_u64(given + OFF_NFT_VERDICT_CHAIN));
}
#define immediate(ctx, cpu, probe, final, skb) immediate_skb(ctx)
#define reject(ctx, cpu, probe, final, skb)                                                        \
	verdict_given(read_u64(SKBTRACE_REG3(ctx)), SKBTRACE_REG1(ctx), NF_DROP, 0)

/*
 * (expression, registers, pktinfo): a map of verdicts, or a target of iptables-nft. What it says is
 * known at its return: struct nft_regs begins with the verdict.
 */
static __always_inline void judge_skb(struct pt_regs *ctx, struct cpu_state *cpu)
{
	__u64 skb = read_u64(SKBTRACE_REG3(ctx));

	if (!find(skb))
		return;
	cpu->judge.skb = skb;
	cpu->judge.stack = SKBTRACE_STACK(ctx);
	cpu->judge.expression = SKBTRACE_REG1(ctx);
	cpu->judge.registers = SKBTRACE_REG2(ctx);
}
#define judge(ctx, cpu, probe, final, skb) judge_skb(ctx, cpu)

static __always_inline void judged_skb(struct pt_regs *ctx, struct cpu_state *cpu)
{
	struct judge *judge = &cpu->judge;
	__u64 skb = judge->skb;
	if (!skb || judge->stack + RETURN_ADDRESS != SKBTRACE_STACK(ctx))
		return;
	judge->skb = 0;
	__s32 code = read_u32(judge->registers);
	if (code == NF_DROP || code == NF_ACCEPT || code == NFT_JUMP || code == NFT_GOTO)
		verdict_given(skb, judge->expression, code,
			      read_u64(judge->registers + OFF_NFT_VERDICT_CHAIN));
}
#define judged(ctx, cpu, probe, final, skb) judged_skb(ctx, cpu)

/* Did nftables drop it? Then note the rule, and in which chain it is, or that it was the policy. */
static __always_inline void note_rule(struct live *p)
{
	struct cpu_state *cpu = state_of(TRACEPOINT);
	if (!cpu || !p->nft.chain[0])
		return;
	struct walk *walk = &cpu->walk;
	if (p->nft.code == NF_DROP) {
#pragma unroll
		for (int i = 0; i < NFT_CHAINS; i++)
			walk->chain[i] = i <= p->nft.jumps ? p->nft.chain[i] : 0;
		walk->owner = 0;
		__u64 handle = rule_of(walk, p->nft.expression);
		if (!handle)
			return;
		note(p, SKBTRACE_NOTE_RULE, 0, 0, handle, 0);
		struct table_key key = key_of(p, walk->owner);
		if (!known(&key))
			know_chain(&key, false);
		note(p, SKBTRACE_NOTE_TABLE, 0, 0, key.address, key.made);
	} else if (p->nft.code != NF_ACCEPT) {
		__u64 base = p->nft.chain[0] - OFF_NFT_BASE_CHAIN_CHAIN;
		if (!(read_u32(base + OFF_NFT_BASE_CHAIN_POLICY) & 0xff)) /* NF_DROP */
			note(p, SKBTRACE_NOTE_RULE, 1, 0, 0, 0);
	}
}
#else
#define immediate(ctx, cpu, probe, final, skb)
#define reject(ctx, cpu, probe, final, skb)
#define judge(ctx, cpu, probe, final, skb)
#define judged(ctx, cpu, probe, final, skb)
#define note_rule(p)
#endif
#else
#define note_rule(p)
#endif /* SKBTRACE_NETFILTER */

/*
 * A socket takes the packet. If it is a clone, its parent must know: the parent's own free
 * may look like a drop (an echo reply that a raw socket took ends as NO_SOCKET).
 */
static __always_inline void tell_parent(struct live *p)
{
	if (!p->record.parent)
		return;
	__u64 parent_skb = p->parent_skb;
	struct live *parent = find(parent_skb);
	if (parent && parent->record.id == p->record.parent)
		parent->record.flags |= SKBTRACE_CLONE_QUEUED;
}

/* How many packets a packet socket has taken, if this kernel's is one that we know. */
static __always_inline bool packets_of(__u64 sk, __u32 *count)
{
#ifdef OFF_PACKET_SOCK_STATS
	*count = read_u32(sk + OFF_PACKET_SOCK_STATS); /* tp_packets */
	return true;
#else
	return false;
#endif
}

static __always_inline void socket_skb(struct pt_regs *ctx, struct cpu_state *cpu, __u32 probe,
				       __u32 final, __u64 skb, __u64 sk, bool tapped)
{
	struct live *p = find(skb);
	if (!p)
		return;
	struct hit *hit = hand(cpu, probe, final, skb, p->slot);
	p->sk = sk;
	if (!tapped)
		tell_parent(p);
	else if (packets_of(sk, &p->count))
		p->tap = probe;
	hit->kind = SKBTRACE_NOTE_SOCKET;
	hit->word = sk_netns(sk);
	hit->half = read_u16(sk + OFF_SOCK_COMMON_SKC_FAMILY);
	hit->value = sk_type_protocol(sk);
	hit->more = 0;
	programs.call(ctx, PASS);
}
#define queue(ctx, cpu, probe, final, skb)                                                         \
	socket_skb(ctx, cpu, probe, final, skb, SKBTRACE_REG1(ctx), false)
/* A packet socket: argument 3 is its struct packet_type. */
#define tap(ctx, cpu, probe, final, skb)                                                           \
	socket_skb(ctx, cpu, probe, final, skb,                                                    \
		   read_u64(SKBTRACE_REG3(ctx) + OFF_PACKET_TYPE_AF_PACKET_PRIV), true)

/* tcp_conn_request(..., sk, skb): a listener, whose count of drops is kept until the end. */
static __always_inline void request_skb(struct pt_regs *ctx, struct cpu_state *cpu, __u32 probe,
					__u32 final, __u64 skb)
{
	__u64 sk = SKBTRACE_REG3(ctx);
	struct live *p = find(skb);
	if (!p)
		return;
	p->count = read_u32(sk + OFF_SOCK_SK_DROPS);
	socket_skb(ctx, cpu, probe, final, skb, sk, false);
}
#define request(ctx, cpu, probe, final, skb) request_skb(ctx, cpu, probe, final, skb)

/* GRO: what was received becomes a part of what was received before. */
static __always_inline void merge_skb(struct pt_regs *ctx, struct cpu_state *cpu, __u32 probe,
				      __u32 final, __u64 skb)
{
	struct live *p = find(skb);
	if (!p)
		return;
	__u64 into = SKBTRACE_REG1(ctx);
	struct live *other = find(into);
	struct hit *hit = hand(cpu, probe, final, skb, p->slot);
	hit->kind = SKBTRACE_NOTE_MERGED;
	hit->word = 0;
	hit->half = 0;
	hit->value = other ? other->record.id : 0;
	hit->more = 0;
	programs.call(ctx, PASS);
}
#define merge(ctx, cpu, probe, final, skb) merge_skb(ctx, cpu, probe, final, skb)

/*
 * A function that makes skbs of one: the entry knows the parent, the return what was made. They
 * are matched by where the return address lies, so that an interrupt that does the same in between
 * is told apart; what is then missed is counted.
 */
static __always_inline void clone_skb(struct pt_regs *ctx, struct cpu_state *cpu, __u32 probe,
				      __u64 skb)
{
	__u32 slot = 0;
	enum how how = look_up(skb, &slot);
	if (how != FOLLOWED && !is_passed(how))
		return;
	struct maker *maker = &cpu->makers[(probe - SKBTRACE_CLONE) / 2];
	if (maker->parent)
		count_lost(LOST_CLONE_MISSED);
	maker->parent = skb;
	maker->stack = SKBTRACE_STACK(ctx);
}
#define clone(ctx, cpu, probe, final, skb) clone_skb(ctx, cpu, probe, skb)

static __always_inline void cloned_skb(struct pt_regs *ctx, struct cpu_state *cpu, __u32 probe,
				       __u64 skb)
{
	struct maker *maker = &cpu->makers[(probe - SKBTRACE_CLONE) / 2];
	__u64 parent = maker->parent;
	if (!parent || maker->stack + RETURN_ADDRESS != SKBTRACE_STACK(ctx))
		return;
	maker->parent = 0;
	if (!skb || skb >= -4095ULL) /* none, or an error */
		return;
	__u32 slot = 0;
	enum how how = look_up(parent, &slot);
	struct hit *hit = hand(cpu, probe - 1, 0, parent, slot);
	hit->made = skb;
	hit->chain = probe - 1 == SKBTRACE_SEGMENT;
	if (how == FOLLOWED)
		programs.call(ctx, PASS);
	else if (is_passed(how))
		programs.call(ctx, PASS_BRANCH);
}
#define cloned(ctx, cpu, probe, final, skb) cloned_skb(ctx, cpu, probe, SKBTRACE_RESULT(ctx))

/* A slot for a packet that was just made. */
static __always_inline struct live *made_anew(__u64 skb)
{
	__u32 slot = 0;
	enum how how = look_up(skb, &slot);
	if (how == FOLLOWED) {
		struct live *before = live.lookup(&slot);
		if (!before)
			return 0;
		end_unseen(before);
	}
	return take(skb, how, slot);
}

/*
 * Packets that were made of another begin their journeys where that one is, or are passed over as it
 * is. Segments hang together by skb->next: some of them at a time, then the program calls itself.
 */
#define SEGMENTS_AT_A_TIME 4
static __always_inline __u64 next_made(struct hit *hit)
{
	__u64 skb = hit->made;
	hit->made = skb && hit->chain ? read_u64(skb + OFF_SK_BUFF_NEXT) : 0;
	return skb;
}

/* A packet was made of another one. `typed`: the same, if the verifier knows it. */
static __always_inline void begin_branch(enum context context, struct cpu_state *cpu,
					 struct live *parent, __u64 parent_skb, __u64 skb,
					 const void *typed, __u64 now, __u32 probe)
{
	struct live *p = made_anew(skb);
	if (!p)
		return;
	struct layout *of = &cpu->hit.layout;
	struct headers at;
	if (context == FEXIT)
		load_layout(of, typed);
	else
		read_layout(of, skb);
	find_headers(&at, of);
	p->dev = parent->dev;
	p->ifindex = parent->ifindex;
	p->netns = parent->netns;
	p->routed = parent->routed;
	p->beside = parent->beside;
	p->parent_skb = parent_skb;
	begin_record(p, cpu, context, skb, &at, of, now, probe, 0, 0);
	p->record.parent = parent->record.id;
	note(parent, SKBTRACE_NOTE_CLONE, 0, 0, p->record.id, 0);
}

int skbtrace_branch(struct pt_regs *ctx)
{
	struct cpu_state *cpu = state_of(KPROBE);
	if (!cpu)
		return 0;
	struct hit *hit = &cpu->hit;
	__u64 parent_skb = hit->skb;
	__u32 slot = hit->slot;
	struct live *parent = live.lookup(&slot);
	if (!parent)
		return 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < SEGMENTS_AT_A_TIME; i++) {
		if (!hit->made || !make_room(parent, hit->now, 1))
			return 0;
		begin_branch(KPROBE, cpu, parent, parent_skb, next_made(hit), 0, hit->now,
			     hit->probe);
	}
	if (hit->made) {
		programs.call(ctx, BRANCH);
		count_lost(LOST_CLONE_MISSED); /* no program may call on more often */
	}
	return 0;
}

#ifdef SKBTRACE_PASSES_OVER
static __always_inline void pass_over_branch(__u64 skb)
{
	struct live *p = made_anew(skb);
	if (!p)
		return;
	p->beside = 0;
	pass_over(p, skb, PASSED_WITH_PARENT);
}

int skbtrace_pass_branch(struct pt_regs *ctx)
{
	struct cpu_state *cpu = state_of(KPROBE);
	if (!cpu)
		return 0;
	struct hit *hit = &cpu->hit;
#pragma clang loop unroll(disable)
	for (int i = 0; i < SEGMENTS_AT_A_TIME; i++) {
		__u64 skb = next_made(hit);
		if (!skb)
			return 0;
		pass_over_branch(skb);
	}
	if (hit->made)
		programs.call(ctx, PASS_BRANCH);
	return 0;
}
#else
#define pass_over_branch(skb)
#endif

#ifdef SKBTRACE_RAW_BEGIN
/*
 * The tracepoint net_dev_start_xmit: the driver of a device is given the packet. Not for devices
 * whose transmit function is probed itself.
 */
static __always_inline void driver_skb(struct bpf_raw_tracepoint_args *ctx, struct cpu_state *cpu,
				       __u32 probe, __u32 final)
{
	__u64 skb = ctx->args[0];
	__u64 ops = read_u64(ctx->args[1] + OFF_NET_DEVICE_NETDEV_OPS);
	if (SKBTRACE_PROBED_OPS(ops))
		return;
	__u32 slot = 0;
	enum how how = look_up(skb, &slot);
	if (is_refused(how))
		return;
	struct live *p = how == FOLLOWED ? live.lookup(&slot) : 0;
	p = still(p);
	if (!p) {
		hand(cpu, probe, final, skb, slot);
		raw_programs.call(ctx, 0);
		return;
	}
	__u64 now = bpf_ktime_get_ns();
	if (!make_room(p, now, SLOTS_HOP))
		return;
	append(TRACEPOINT, p, now, probe, final, skb, 0, 0);
}
#define driver(ctx, cpu, probe, final, skb) driver_skb(ctx, cpu, probe, final)
int skbtrace_raw_begin(struct bpf_raw_tracepoint_args *ctx)
{
	begin_journey(TRACEPOINT);
	return 0;
}
#endif

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
	p->dropped = 1;
	p->drop_reason = reason;
	p->drop_at = ctx->args[1];
	note(p, SKBTRACE_NOTE_DROP, reason, 0, ctx->args[1], 0);
	if (p->last == SKBTRACE_NFT)
		note_rule(p);
	note_circumstances(p);
}
#define drop(ctx, cpu, probe, final, skb) drop_skb(ctx)

/*
 * Nothing was seen of a clone but how it was made. packet_rcv() makes one for itself of a packet
 * that others hold too, and queues it. What is in a receive queue has the destructor sock_rfree.
 */
static __always_inline void note_queue(struct live *p, __u64 skb)
{
#ifdef SKBTRACE_SOCK_RFREE
	if (read_u64(skb + OFF_SK_BUFF_DESTRUCTOR) != SKBTRACE_SOCK_RFREE)
		return;
	p->sk = read_u64(skb + OFF_SK_BUFF_SK);
	p->record.flags |= SKBTRACE_FROM_QUEUE;
	note(p, SKBTRACE_NOTE_SOCKET, sk_netns(p->sk), read_u16(p->sk + OFF_SOCK_COMMON_SKC_FAMILY),
	     sk_type_protocol(p->sk), 0);
#endif
}

/*
 * Freed where a packet socket was given it: it has copied the packet to its ring, or its filter did
 * not want it. A socket without a ring queues what it takes.
 */
static __always_inline void note_tap(struct live *p, __u64 skb)
{
	__u32 count;
	if (p->last != p->tap || !packets_of(p->sk, &count) || count != p->count)
		return;
#ifdef SKBTRACE_SOCK_RFREE
	if (read_u64(skb + OFF_SK_BUFF_DESTRUCTOR) == SKBTRACE_SOCK_RFREE)
		return;
#endif
	p->record.flags |= SKBTRACE_REFUSED;
}

/*
 * A free. skb_release_head_state sees each exactly once, also those no tracepoint sees, but for
 * datagrams whose head state went before they were read: __consume_stateless_skb frees those.
 */
static __always_inline void end_skb(struct cpu_state *cpu, enum context context, __u32 probe,
				    __u64 skb)
{
	__u32 slot = 0;
	enum how how = look_up(skb, &slot);
	if (is_passed(how))
		pass_away(skb, slot, how);
	struct live *p = how == FOLLOWED ? live.lookup(&slot) : 0;
	if (!p)
		return;
	if (p->last == SKBTRACE_CLONE)
		note_queue(p, skb);
	note_tap(p, skb);
	struct skbtrace_hop *hop = next_slot(p);
	__u64 now = bpf_ktime_get_ns();
	__u32 netns = p->netns;
	__u32 ifindex = p->ifindex;
	if (hop) {
		/* The skb is being torn down: neither device nor length is read any more. */
		if (now < p->record.base_ns) /* clocks of two CPUs */
			now = p->record.base_ns;
		step_to(context, p, now, probe);
		p->ifindex = 0;
		p->netns = 0;
		/* It may have waited for its reader longer than dt_ns can say: arg is the upper half. */
		fill(hop, p, now, probe, 0, (now - p->record.base_ns) >> 32);
	}
	if (p->last == SKBTRACE_REQUEST)
		note_listener(p);
	if (p->sk)
		note_task(p, cpu, context);
	p->record.flags |= SKBTRACE_LAST;
	count_end(p, netns, ifindex);
	send(p, now);
	mark(slot, skb, ENDED);
}
#define end(ctx, cpu, probe, final, skb) end_skb(cpu, KPROBE, probe, skb)

/*
 * The same where the kernel tells the arguments' types, by fentry or tp_btf: the call costs a third
 * of a kprobe's. A hop of a packet that is followed is appended here, for no other program can be
 * called on but those that were loaded for this function (commit 28ead3eaabc1): there is just
 * `begin`.
 */
#ifdef SKBTRACE_TYPED
int skbtrace_begin_typed(struct arguments *given)
{
	begin_journey(FENTRY);
	struct cpu_state *cpu = state_of(FENTRY);
	if (cpu)
		cpu->hit.busy = 0;
	return 0;
}

/*
 * The address as a number, with which one may calculate: what is read from memory is one. Nobody
 * else writes there, for on a CPU no such program is called in the middle of itself.
 */
static __always_inline __u64 number_of(struct cpu_state *cpu, __u32 probe, const void *typed)
{
	__u64 *at = &cpu->number_of[probe];
	*(const void *volatile *)at = typed;
	return *(volatile __u64 *)at;
}

/* What costs the next program a call for each member, for it has no typed pointer. */
static __always_inline void hand_typed(struct hit *hit, const void *skb)
{
	const void *dev = load_pointer(skb, OFF_SK_BUFF_DEV);
	load_layout(&hit->layout, skb);
	hit->dev = (__u64)dev;
	if (!dev)
		return;
	hit->ifindex = load_u32(dev, OFF_NET_DEVICE_IFINDEX);
	hit->netns = load_u32(load_pointer(dev, OFF_NET_DEVICE_ND_NET), OFF_NET_NS_INUM);
}

/* A packet that is followed has come to its next hop: append() with a typed pointer. */
static __always_inline void append_typed(enum context context, struct live *p, __u64 now,
					 __u32 probe, __u32 final, const void *typed, __u32 arg,
					 __u64 port)
{
	step_to(context, p, now, probe);
	add_typed_hop(p, now, probe, final, typed, arg);
	come_within(p);
	p->port = port;
}

static __always_inline void start_typed(struct arguments *given, struct cpu_state *cpu, __u32 probe,
					__u32 final, const void *typed, __u32 arg, bool arrives,
					__u64 port)
{
	__u64 skb = number_of(cpu, probe, typed);
	__u32 slot = 0;
	enum how how = look_up(skb, &slot);
	if (is_refused(how))
		return;
	struct live *p = how == FOLLOWED ? live.lookup(&slot) : 0;
	p = still(p);
	if (p) {
		__u64 now = bpf_ktime_get_ns();
		if (make_room(p, now, SLOTS_HOP))
			append_typed(FENTRY, p, now, probe, final, typed, arg, port);
		return;
	}
	if (cpu->hit.busy) {
		__sync_fetch_and_add(&cpu->missed, 1);
		return;
	}
	cpu->hit.busy = 1;
	struct hit *hit = hand(cpu, probe, final, skb, slot);
	hit->arg = arg;
	hit->arrives = arrives;
	hit->port = port;
	hit->how = how == FOLLOWED ? ENDED : how;
	hand_typed(hit, typed);
	programs.call(given, BEGIN);
	cpu->hit.busy = 0;
}
#define start_fentry(given, cpu, probe, final, typed)                                              \
	start_typed(given, cpu, probe, final, typed, 0, false, 0)
#define enqueue_fentry(given, cpu, probe, final, typed)                                            \
	start_typed(given, cpu, probe, final, typed, (given)->arg[1], false, 0)
#define egress_fentry(given, cpu, probe, final, typed)                                             \
	start_typed(given, cpu, probe, final, typed, 0, false, (given)->arg[0])

static __always_inline void forward_typed(struct cpu_state *cpu, __u32 probe, __u32 final,
					  const void *typed)
{
	struct live *p = find(number_of(cpu, probe, typed));
	if (!p)
		return;
	__u64 now = bpf_ktime_get_ns();
	if (!make_room(p, now, SLOTS_HOP))
		return;
	if (p->last != SKBTRACE_XMIT) {
		append_typed(FENTRY, p, now, probe, final, typed, 0, 0);
		return;
	}
	step_to(FENTRY, p, now, probe);
	add_same_hop(p, now, probe, final, 0, 0);
}
#define forward_fentry(given, cpu, probe, final, typed) forward_typed(cpu, probe, final, typed)

static __always_inline void receive_typed(struct arguments *given, struct cpu_state *cpu,
					  __u32 probe, __u32 final, const void *typed)
{
	struct cpu_state *kprobes = state_of(KPROBE);
	struct live *p = find(number_of(cpu, probe, typed));
	if (kprobes && p && p->last == SKBTRACE_ENQUEUE)
		dequeue(FENTRY, kprobes, p, probe, final);
	else
		start_typed(given, cpu, probe, final, typed, 0, true, 0);
}
#define receive_tp_btf(given, cpu, probe, final, typed)                                            \
	receive_typed(given, cpu, probe, final, typed)

static __always_inline void reach_number(__u32 probe, __u32 final, __u64 skb)
{
	struct live *p = find(skb);
	if (!p)
		return;
	__u64 now = bpf_ktime_get_ns();
	if (make_room(p, now, SLOTS_HOP))
		append(FENTRY, p, now, probe, final, skb, 0, 0);
}
#define reach_fentry(given, cpu, probe, final, skb) reach_number(probe, final, skb)

#ifdef SKBTRACE_NETFILTER
static __always_inline void reach_typed(struct cpu_state *cpu, __u32 probe, __u32 final,
					const void *typed, __u32 arg)
{
	struct live *p = find(number_of(cpu, probe, typed));
	if (!p)
		return;
	__u64 now = bpf_ktime_get_ns();
	if (make_room(p, now, SLOTS_HOP))
		append_typed(FENTRY, p, now, probe, final, typed, arg, 0);
}

static __always_inline void hook_typed(struct arguments *given, struct cpu_state *cpu, __u32 probe,
				       __u32 final, const void *typed)
{
	const void *state = (const void *)given->arg[1];
	__u8 hook = load_u8(state, OFF_NF_HOOK_STATE_HOOK);
	__u8 family = load_u8(state, OFF_NF_HOOK_STATE_PF);
	__u32 arg = hook | (__u32)family << 8;

	if (is_own(hook, family))
		start_typed(given, cpu, probe, final, typed, arg, false, 0);
	else
		reach_typed(cpu, probe, final, typed, arg);
}
#define hook_fentry(given, cpu, probe, final, typed) hook_typed(given, cpu, probe, final, typed)
#endif

static __always_inline void serve_typed(struct cpu_state *cpu, __u32 probe, const void *napi)
{
	struct cpu_state *kprobes = state_of(KPROBE);
	if (kprobes)
		serve_queue(FENTRY, kprobes, probe, number_of(cpu, probe, napi));
}
#define serve_fentry(given, cpu, probe, final, typed) serve_typed(cpu, probe, typed)

/* At its return skb_clone() is told what it was given and what it has made. */
static __always_inline void cloned_typed(struct cpu_state *cpu, __u32 probe, const void *typed,
					 const void *made)
{
	if (!made)
		return;
	__u64 skb = number_of(cpu, probe, typed);
	__u64 clone = number_of(cpu, probe, made);
	__u32 slot = 0;
	enum how how = look_up(skb, &slot);
	if (is_passed(how))
		pass_over_branch(clone);
	struct live *p = how == FOLLOWED ? live.lookup(&slot) : 0;
	if (!p)
		return;
	__u64 now = bpf_ktime_get_ns();
	if (!make_room(p, now, SLOTS_HOP + 1))
		return;
	append_typed(FEXIT, p, now, probe - 1, 0, typed, 0, 0);
	begin_branch(FEXIT, cpu, p, skb, clone, made, now, probe - 1);
}
#define cloned_fexit(given, cpu, probe, final, typed)                                              \
	cloned_typed(cpu, probe, typed, (const void *)(given)->arg[2])
#define end_fentry(given, cpu, probe, final, typed)                                                \
	end_skb(cpu, FENTRY, probe, number_of(cpu, probe, typed))
#endif

/* The consume_skb tracepoint: of a packet that a driver was given last, this is its free. */
static __always_inline void sent_skb(struct bpf_raw_tracepoint_args *ctx, struct cpu_state *cpu,
				     __u32 probe)
{
	__u64 skb = ctx->args[0];
	__u32 slot = 0;
	enum how how = look_up(skb, &slot);
	struct live *p = how == FOLLOWED ? live.lookup(&slot) : 0;
	if (is_passed(how) || (p && p->last == SKBTRACE_DRIVER))
		end_skb(cpu, TRACEPOINT, probe, skb);
}
#define sent(ctx, cpu, probe, final, skb) sent_skb(ctx, cpu, probe)

/*
 * The attach points: one thin function per row of the table, named by its position. Its hits are
 * exact: kprobes do not nest on a CPU, and a tracepoint, which may, has a row of its own.
 */
#define kprobe_point(n, handler, skb, final)                                                       \
	int skbtrace_##n(struct pt_regs *ctx)                                                      \
	{                                                                                          \
		struct cpu_state *cpu = state_of(KPROBE);                                          \
		if (!cpu)                                                                          \
			return 0;                                                                  \
		cpu->hits[n]++;                                                                    \
		handler(ctx, cpu, n, final, skb(ctx));                                             \
		return 0;                                                                          \
	}
#define kretprobe_point kprobe_point
#define typed_point(n, context, handler, skb, final)                                               \
	int skbtrace_##n(struct arguments *given)                                                  \
	{                                                                                          \
		struct cpu_state *cpu = state_of(context);                                         \
		if (!cpu)                                                                          \
			return 0;                                                                  \
		cpu->hits[n]++;                                                                    \
		handler(given, cpu, n, final, TYPED_##skb(given));                                 \
		return 0;                                                                          \
	}
#define fentry_point(n, handler, skb, final) typed_point(n, FENTRY, handler##_fentry, skb, final)
#define fexit_point(n, handler, skb, final) typed_point(n, FEXIT, handler##_fexit, skb, final)
#define tp_btf_point(n, handler, skb, final)                                                       \
	typed_point(n, FENTRY, handler##_tp_btf, SKB_ARG1, final)
#define raw_tracepoint_point(n, handler, skb, final)                                               \
	int skbtrace_##n(struct bpf_raw_tracepoint_args *ctx)                                      \
	{                                                                                          \
		struct cpu_state *cpu = state_of(TRACEPOINT);                                      \
		if (!cpu)                                                                          \
			return 0;                                                                  \
		__sync_fetch_and_add(&cpu->hits[n], 1);                                            \
		handler(ctx, cpu, n, final, 0);                                                    \
		return 0;                                                                          \
	}
#define attach_point(n, attach, handler, skb, final) attach##_point(n, handler, skb, final)
SKBTRACE_PROBES(attach_point)
