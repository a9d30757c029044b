/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * nftables keeps no rule's name at hand while it works on a packet, only expressions. From an
 * expression to the rule it is in. No maps here.
 */
#ifndef SKBTRACE_NFT_H
#define SKBTRACE_NFT_H

/* The search for the rule that dropped a packet, see rule_of(). */
struct walk {
	__u64 chain[NFT_CHAINS];
	__u64 at;
	__u64 owner;
	__u32 next;
	__u32 unused;
};

#ifdef OFF_NFT_CHAIN_HANDLE
/*
 * The handle of the rule that an expression is in, or 0. A chain's rules lie in two generations,
 * of which one is in use. Since 6.1 (5.17: commit 2c865a8a28a1) each is one blob of nft_rule_dp, a
 * word of which is_last has bit 0, dlen 12 bits, handle 42; before it is an array of pointers to
 * nft_rule, where handle has 42 bits, genmask 2, dlen 12.
 */
#define NFT_RULES 256 /* searched at most */
#define NFT_HANDLE ((1ULL << 42) - 1)

#ifdef OFF_NFT_CHAIN_BLOB_GEN_0
static __always_inline __u64 rule_of(struct walk *walk, __u64 expression)
{
	__u64 at = 0;
#pragma unroll
	for (int i = 0; i < 2 * NFT_CHAINS; i++) {
		__u64 chain = walk->chain[i / 2];
		if (!chain)
			continue;
		__u64 blob = read_u64(
			chain + (i & 1 ? OFF_NFT_CHAIN_BLOB_GEN_1 : OFF_NFT_CHAIN_BLOB_GEN_0));
		__u64 from = blob + OFF_NFT_RULE_BLOB_DATA;
		if (blob && expression >= from && expression < from + read_u64(blob)) {
			at = from;
			walk->owner = chain;
		}
	}
	if (!at)
		return 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < NFT_RULES; i++) {
		__u64 head = read_u64(at);
		__u64 next = at + 8 + (head >> 1 & 0xfff);
		if (expression < next)
			return head >> 13 & NFT_HANDLE;
		at = next;
	}
	return 0;
}
#else
/* One flat loop, its state in a map: so the verifier has one way through it only. */
static __always_inline __u64 rule_of(struct walk *walk, __u64 expression)
{
	walk->next = 0;
	walk->at = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < NFT_RULES; i++) {
		__u64 rule = read_u64(walk->at);
		if (!rule) {
			__u32 next = walk->next;
			if (next >= 2 * NFT_CHAINS)
				return 0;
			walk->owner = walk->chain[next / 2];
			walk->at = read_u64(walk->owner + 8 * (next & 1)); /* rules_gen_0, _1 */
			walk->next = next + 1;
			continue;
		}
		__u64 head = read_u64(rule + 16);
		if (expression - (rule + 24) < (head >> 44 & 0xfff))
			return head & NFT_HANDLE;
		walk->at += 8;
	}
	return 0;
}
#endif
#endif /* OFF_NFT_CHAIN_HANDLE */

#endif
