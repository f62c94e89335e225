//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 */
/* Directors: a packet to a VIP goes to the real server that owns the slot of its flow. What Decide of executor/lb does. */
#include "place.h"

char _license[] SEC("license") = "GPL";

/* The address that the frames have which are for this director: its first four bytes, the next two; and its last four. */
const volatile __u32 own4 = 0, own_last4 = 0;
const volatile __u16 own2 = 0;
/* Whether frames leave by the interface in `device` (XDP), or which interface they leave by (tcx). 0: the one they came in by. */
const volatile __u32 out = 0;

struct { __uint(type, BPF_MAP_TYPE_DEVMAP); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32); } device SEC(".maps");

enum { PASS, FORWARD, DROP, UNSEEN };
enum { TCX_NEXT = -1, TCX_DROP = 2 };

INLINE int forward(const struct frame *f, const struct state *s, const struct flow *w, const struct service *v)
{
	if (v->flags & F_ALLOW && !allowed(w, v)) {
		count(v->counter, NOT_ALLOWED, f->length);
		return DROP;
	}
	__u16 *owner = at(v->slots, slot(w, v) * 2, 2);
	if (!owner || *owner == NOBODY) {
		count(v->counter, NO_SERVER, f->length);
		return DROP;
	}
	address(f->data, &s->servers[*owner & (SERVERS - 1)], 15, v->mark, own_last4);
	count(v->counter, PLACED, f->length);
	return FORWARD;
}

INLINE int pass(const struct frame *f, enum reason why)
{
	count(0, why, f->length);
	return PASS;
}

/* Decides, rewrites, counts. UNSEEN: see decide. */
INLINE int decide_plain(const struct frame *f)
{
	struct flow w = {};
	if (!plain(f, &w))
		return UNSEEN;
	if (!is(f->data, own4, own2))
		return pass(f, NOT_FOR_US);
	struct state *s = current();
	if (!s)
		return PASS;
	struct service *v = listener(s, w.dst, w.dport, w.protocol, 0);
	if (!v)
		return pass(f, NO_SERVICE);
	return forward(f, s, &w, v);
}

/* The same for every packet, parsed with result r. Headers that are out of sight even so are nobody's but an attacker's. */
INLINE int decide(const struct frame *f, struct flow *w, enum reason r)
{
	struct service *v = 0;
	struct state *s = current();
	if (!s)
		return PASS;
	if (f->data + ETH > f->end)
		return pass(f, NOT_IP);
	if (!is(f->data, own4, own2))
		return pass(f, NOT_FOR_US);
	if (r == PLACED)
		r = place(w, s, &v);
	if (r != PLACED || !v)
		return pass(f, r == SHORT ? OTHER : r);
	return forward(f, s, w, v);
}

static __noinline enum reason parse_xdp(struct xdp_md *ctx, struct flow *w)
{
	struct frame f = { (void *)(long)ctx->data, (void *)(long)ctx->data_end, bpf_xdp_get_buff_len(ctx) };
	return parse_frame(&f, w);
}

static __noinline int slow_xdp(struct xdp_md *ctx)
{
	struct flow *w = parse_to();
	if (!w)
		return PASS;
	enum reason r = parse_xdp(ctx, w);
	struct frame f = { (void *)(long)ctx->data, (void *)(long)ctx->data_end, bpf_xdp_get_buff_len(ctx) };
	return decide(&f, w, r);
}

SEC("xdp.frags") int director_xdp(struct xdp_md *ctx)
{
	struct frame f = { (void *)(long)ctx->data, (void *)(long)ctx->data_end };
	f.length = f.end - f.data;
	int action = decide_plain(&f);
	if (action == UNSEEN)
		action = slow_xdp(ctx);
	if (action == FORWARD)
		return out ? bpf_redirect_map(&device, 0, 0) : XDP_TX;
	return action == DROP ? XDP_DROP : XDP_PASS;
}

static __noinline enum reason parse_tcx(struct __sk_buff *skb, struct flow *w)
{
	struct frame f = { (void *)(long)skb->data, (void *)(long)skb->data_end, skb->len };
	return skb->vlan_present ? NOT_IP : parse_frame(&f, w);
}

static __noinline int slow_tcx(struct __sk_buff *skb)
{
	struct flow *w = parse_to();
	if (!w)
		return PASS;
	enum reason r = parse_tcx(skb, w);
	if (r == SHORT && !bpf_skb_pull_data(skb, skb->len))
		r = parse_tcx(skb, w);
	struct frame f = { (void *)(long)skb->data, (void *)(long)skb->data_end, skb->len };
	return decide(&f, w, r);
}

SEC("tcx/ingress") int director_tcx(struct __sk_buff *skb)
{
	struct frame f = { (void *)(long)skb->data, (void *)(long)skb->data_end, skb->len };
	int action = skb->vlan_present ? UNSEEN : decide_plain(&f);
	if (action == UNSEEN)
		action = slow_tcx(skb);
	if (action == FORWARD)
		return bpf_redirect(out ? out : skb->ifindex, 0);
	return action == DROP ? TCX_DROP : TCX_NEXT;
}
