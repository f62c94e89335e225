/* SPDX-License-Identifier: GPL-2.0 */
/* From a flow to its service and slot: what Tables.read of executor/lb does. */
#pragma once
#include "packet.h"

/* What the first fragment of a datagram told, for the later ones, which have no ports. */
struct fragment_key { __u64 src[2], dst[2]; __be32 id; __u32 protocol; };
struct fragment { __be16 sport, dport; __u8 protocol, flags, unused[2]; };
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 16384); __type(key, struct fragment_key); __type(value, struct fragment); } fragments SEC(".maps");

INLINE int is(const struct mac *m, __u32 first4, __u16 last2) { return m->first4 == first4 && m->last2 == last2; }

/* Writes both addresses: the server's, and the stamp of the sender, of whose own address the last four bytes are used. */
INLINE void address(void *frame, const struct server *to, __u8 left, __u8 mark, __u32 own_last4)
{
	struct mac *dst = frame;
	dst->first4 = to->mac.first4;
	dst->last2 = to->mac.last2;
	*(__u16 *)(frame + 6) = STAMP | (left << 4 | mark) << 8;
	*(__u32 *)(frame + 8) = own_last4;
}

/* The service of a packet that has been parsed. */
INLINE enum reason place(struct flow *w, struct state *s, struct service **service)
{
	if (w->kind == LATER_FRAGMENT) {
		struct fragment_key k = { { w->src[0], w->src[1] }, { w->dst[0], w->dst[1] }, w->id, w->fragment_protocol };
		struct fragment *g = bpf_map_lookup_elem(&fragments, &k);
		if (!g)
			return FRAGMENT_UNKNOWN;
		w->sport = g->sport;
		w->dport = g->dport;
		w->protocol = g->protocol;
		w->flags = g->flags;
	}
	struct service *v = listener(s, w->dst, w->dport, w->protocol, w->six);
	if (!v)
		return NO_SERVICE;
	if (w->kind == FIRST_FRAGMENT) {
		struct fragment_key k = { { w->src[0], w->src[1] }, { w->dst[0], w->dst[1] }, w->id, w->fragment_protocol };
		struct fragment g = { w->sport, w->dport, w->protocol, w->flags };
		bpf_map_update_elem(&fragments, &k, &g, BPF_ANY);
	}
	*service = v;
	return PLACED;
}

/* The flow's slot: Hash and Slot of executor/lb. */
INLINE __u32 slot(const struct flow *w, const struct service *v)
{
	__u64 h = v->seed ^ 0x9e3779b97f4a7c15ull, ports = w->sport | (__u32)w->dport << 16 | (__u64)w->protocol << 32;
	__u64 dst0 = w->dst[0], dst1 = w->dst[1];
	if (v->flags & F_BY_SOURCE)
		ports = dst0 = dst1 = 0;
	if (w->six)
		h = absorb(absorb(absorb(absorb(h, w->src[0]), w->src[1]), dst0), dst1);
	else
		h = absorb(h, w->src[0] | dst0 << 32);
	h = finish(absorb(h, ports));
	return (h >> 32) * v->size >> 32;
}

INLINE int before(__u64 high, __u64 low, __u64 high2, __u64 low2) { return high < high2 || (high == high2 && low < low2); }

/* Whether the client is in one of the allowed intervals. */
INLINE int allowed(const struct flow *w, const struct service *v)
{
	__u32 low = 0, high = v->allowed;
	if (!w->six) {
		__u32 client = bpf_ntohl((__u32)w->src[0]);
#pragma clang loop unroll(disable)
		for (int i = 0; i < 17 && low < high; i++) {
			__u32 middle = (low + high) / 2;
			struct range4 *r = at(v->allow, middle * sizeof *r, sizeof *r);
			if (!r)
				return 0;
			if (client < r->first)
				high = middle;
			else if (client > r->last)
				low = middle + 1;
			else
				return 1;
		}
		return 0;
	}
	__u64 top = bpf_be64_to_cpu(w->src[0]), bottom = bpf_be64_to_cpu(w->src[1]);
#pragma clang loop unroll(disable)
	for (int i = 0; i < 17 && low < high; i++) {
		__u32 middle = (low + high) / 2;
		struct range6 *r = at(v->allow, middle * sizeof *r, sizeof *r);
		if (!r)
			return 0;
		if (before(top, bottom, r->first.high, r->first.low))
			high = middle;
		else if (before(r->last.high, r->last.low, top, bottom))
			low = middle + 1;
		else
			return 1;
	}
	return 0;
}
