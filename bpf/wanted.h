/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Is this packet asked for, by what is not in its bytes: tracer/wanted.py. What is asked for comes
 * from the command line: SKBTRACE_ARRIVES, SKBTRACE_MARK and SKBTRACE_MARK_MASK, SKBTRACE_PID,
 * SKBTRACE_COMM and SKBTRACE_COMM_MORE. No maps here.
 */
#ifndef SKBTRACE_WANTED_H
#define SKBTRACE_WANTED_H

static __always_inline bool is_wanted(__u64 skb, bool arrives)
{
#ifdef SKBTRACE_ARRIVES
	if (arrives != SKBTRACE_ARRIVES)
		return false;
#endif
#ifdef SKBTRACE_MARK
	if ((read_u32(skb + OFF_SK_BUFF_MARK) & SKBTRACE_MARK_MASK) != SKBTRACE_MARK)
		return false;
#endif
#ifdef SKBTRACE_PID
	if (!in_process() || bpf_get_current_pid_tgid() >> 32 != SKBTRACE_PID)
		return false;
#endif
#ifdef SKBTRACE_COMM
	__u64 comm[2] = {};
	bpf_get_current_comm(comm, sizeof(comm));
	if (comm[0] != SKBTRACE_COMM || comm[1] != SKBTRACE_COMM_MORE || !in_process())
		return false;
#endif
	return true;
}

#endif
