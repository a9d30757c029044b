/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How long packets take from one probed function to the next: in which class a time is counted.
 *
 * The classes are those of tracer/histogram.py: each power of two is cut into 32, so the middle of
 * a class is within 1/64 of every time in it. They are numbered without gaps here. A unit test
 * compiles this file with the host's compiler and compares. No maps, no BPF, no kernel.
 */
#ifndef SKBTRACE_STEPS_H
#define SKBTRACE_STEPS_H

#define SKBTRACE_STEP_BITS 36 /* of a time in ns: 69 s; what is longer is in the last class */
#define SKBTRACE_STEP_CLASSES 1024

struct skbtrace_step {
	__u64 longest_ns;
	__u64 total_ns;
	__u64 classes[SKBTRACE_STEP_CLASSES];
};

/* 1 if the value is at least 2^bits. Below 2^63 both; no branch, for nobody could predict it. */
#define STEP_REACHES(value, bits) (((1ULL << (bits)) - 1 - (value)) >> 63)

/*
 * The value is shifted until six bits are left, then counted are the shifts, times 32, and what is
 * left: 0 to 63 have a class each, and from there on each shift has 32. BPF has no instruction
 * that finds the first one of a number.
 */
static inline __attribute__((always_inline)) __u32 step_class(__u64 ns)
{
	__u64 shift, by;

	if (ns >> SKBTRACE_STEP_BITS)
		return SKBTRACE_STEP_CLASSES - 1;
	shift = STEP_REACHES(ns, 21) << 4;
	ns >>= shift;
	by = STEP_REACHES(ns, 13) << 3;
	ns >>= by;
	shift += by;
	by = STEP_REACHES(ns, 9) << 2;
	ns >>= by;
	shift += by;
	by = STEP_REACHES(ns, 7) << 1;
	ns >>= by;
	shift += by;
	by = STEP_REACHES(ns, 6);
	ns >>= by;
	shift += by;
	return (shift << 5) + ns;
}

#endif
