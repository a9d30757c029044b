/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which packets are followed and which journeys are sent, where not all are. No maps here.
 */
#ifndef SKBTRACE_LIMIT_H
#define SKBTRACE_LIMIT_H

#define BURST_NS 100000000ULL /* of a second's share, what may begin at once */

/*
 * May one begin, if on average one may in `every` ns? `next` is when the next one should: it may come
 * before that by BURST_NS, and each one moves it on. The virtual scheduling of ITU-T I.371, whose
 * only operation on what CPUs share is an addition: two at once may both begin, and are made up for.
 */
static __always_inline bool may_begin(__u64 *next, __u64 now, __u64 every)
{
	__u64 due = *next;
	if (due > now + BURST_NS)
		return false;
	if (due < now)
		*next = now;
	__sync_fetch_and_add(next, every);
	return true;
}

static __always_inline __u64 mix(__u64 hash)
{
	hash ^= hash >> 33;
	hash *= 0xff51afd7ed558ccdULL;
	return hash ^ hash >> 33;
}

/*
 * A number for a flow, the same for both directions: addresses, protocol and ports of IP, else the
 * EtherType. Fragments behind the first have no ports.
 */
static __always_inline __u64 flow_of(struct skbtrace_record *record)
{
	__u64 w[6] = {};
	__u64 one, other;
	__u32 ports = 0;
	__u8 protocol;

	bpf_probe_read_kernel(w, sizeof(w), record->headers + record->l2_len);
	if ((w[0] & 0xf0) == 0x40) {
		protocol = w[1] >> 8;
		one = w[1] >> 32;
		other = w[2] & 0xffffffff;
		if ((w[0] & 0xff) == 0x45 && !(w[0] >> 48 & 0xff1f))
			ports = w[2] >> 32;
	} else if ((w[0] & 0xf0) == 0x60) {
		protocol = w[0] >> 48;
		one = mix(w[1]) ^ w[2];
		other = mix(w[3]) ^ w[4];
		ports = w[5];
	} else {
		return record->protocol;
	}
	if (protocol != 6 && protocol != 17 && protocol != 132) /* TCP, UDP, SCTP */
		ports = 0;
	one = mix(one) + (ports & 0xffff);
	other = mix(other) + (ports >> 16);
	return mix(one) + mix(other) + protocol;
}

#ifdef SKBTRACE_TRIGGER_NS
/*
 * A whole journey that nobody asked for: neither dropped, if that was asked for, nor longer than
 * asked. Of one whose end was not seen, or of which a piece was sent already, user space judges.
 */
static __always_inline bool is_dull(struct live *p, __u64 now)
{
	if (!(p->record.flags & SKBTRACE_LAST) || p->record.flags & SKBTRACE_END_MISSED ||
	    p->record.chunk)
		return false;
#ifdef SKBTRACE_TRIGGER_DROP
	if (p->dropped)
		return false;
#endif
	return now <= p->record.base_ns + SKBTRACE_TRIGGER_NS;
}
#endif

#endif
