//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 */
/* Relays, on the host ends of real servers: a packet of a flow that the instance does not have goes on to the former owners of
 * the flow's slot, one after the other. What Relay of executor/lb does. */
#include <bpf/bpf_core_read.h>
#include "place.h"

char _license[] SEC("license") = "GPL";

/* The host end of an instance, by its index. */
struct port {
	struct mac self;  /* the instance's address */
	__u32 self_last4;
	__s32 netns;      /* the instance's network namespace, as the host numbers it */
	__u32 out, flags; /* where relayed packets go: interface, and flags of bpf_redirect */
};
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4096); __type(key, __u32); __type(value, struct port); } ports SEC(".maps");

enum { PASS, FORWARD, DROP };
enum { TCX_NEXT = -1, TCX_DROP = 2 };
enum { TCP_LISTEN = 10, TCP_NEW_SYN_RECV = 12 };

struct tcp_request_sock { __u32 snt_isn; } __attribute__((preserve_access_index));
extern void *bpf_rdonly_cast(const void *, __u32) __ksym;

/* Whether the instance would take the packet as one of its own flows: it has a socket of it, or a half-open connection whose
 * SYN-ACK the packet answers, or its listener's SYN cookie comes back. */
INLINE int has(struct __sk_buff *skb, const struct frame *f, const struct flow *w, const struct port *port)
{
	struct bpf_sock_tuple t = {};
	__u32 size = sizeof t.ipv4;
	if (w->six) {
		__builtin_memcpy(t.ipv6.saddr, w->src, 16);
		__builtin_memcpy(t.ipv6.daddr, w->dst, 16);
		t.ipv6.sport = w->sport;
		t.ipv6.dport = w->dport;
		size = sizeof t.ipv6;
	} else {
		t.ipv4.saddr = w->src[0];
		t.ipv4.daddr = w->dst[0];
		t.ipv4.sport = w->sport;
		t.ipv4.dport = w->dport;
	}
	struct bpf_sock *sk = bpf_skc_lookup_tcp(skb, &t, size, port->netns, 0);
	if (!sk)
		return 0;
	int found = 1;
	if (sk->state == TCP_NEW_SYN_RECV) {
		/* bpf_skc_to_tcp_request_sock does not know those of MPTCP, which programs in Go listen for. */
		struct tcp_request_sock *r = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_request_sock));
		found = w->flags & FLAG_ACK && w->kind != ICMP_ERROR && bpf_ntohl(w->ack) == r->snt_isn + 1;
	} else if (sk->state == TCP_LISTEN) {
		found = 0;
		struct tcp *tcp = w->kind == WHOLE ? peek(f, w->transport, sizeof *tcp) : 0;
		void *ip4 = peek(f, ETH, sizeof(struct ip4)), *ip6 = peek(f, ETH, sizeof(struct ip6));
		if (tcp && w->six && ip6)
			found = !bpf_tcp_check_syncookie(sk, ip6, sizeof(struct ip6), (void *)tcp, sizeof *tcp);
		else if (tcp && !w->six && ip4)
			found = !bpf_tcp_check_syncookie(sk, ip4, sizeof(struct ip4), (void *)tcp, sizeof *tcp);
	}
	bpf_sk_release(sk);
	return found;
}

/* The chain of a slot: the owner, then the former ones; and the place in it of whose host this is, or -1. */
struct chain { __u32 length; __u16 owner; const struct list *former; int at; };

INLINE const struct server *member(const struct state *s, const struct chain *c, __u32 i)
{
	__u16 server = c->owner;
	if (i) {
		if (i > CHAIN)
			return 0;
		server = c->former->server[i - 1];
	}
	return &s->servers[server & (SERVERS - 1)];
}

INLINE int chain(struct chain *c, const struct state *s, const struct flow *w, const struct service *v, const struct port *port)
{
	__u32 i = slot(w, v);
	__u16 *owner = at(v->slots, i * 2, 2);
	__u32 *list = at(v->chains, i * 4, 4);
	if (!owner || !list)
		return 0;
	c->owner = *owner;
	c->former = at(0, *list * sizeof(struct list), sizeof(struct list));
	if (!c->former)
		return 0;
	c->length = c->owner == NOBODY ? 0 : 1 + c->former->count;
	c->at = -1;
#pragma clang loop unroll(disable)
	for (__u32 n = 0; n < CHAIN + 1 && n < c->length; n++) {
		const struct server *r = member(s, c, n);
		if (r && is(&r->mac, port->self.first4, port->self.last2)) {
			c->at = n;
			break;
		}
	}
	return 1;
}

/* Sends to the next of the chain. How many are left is counted from the chain's end: changes insert at its beginning. Who gets
 * a packet from a director of another generation, or is not in the chain, begins with the owner. */
INLINE enum reason relay(const struct frame *f, const struct state *s, const struct chain *c, __u8 own, const struct port *port)
{
	__u16 src = *(__u16 *)(f->data + 6);
	__u8 mark = 0; /* who does not stamp may place by other slots: the whole chain is asked */
	int may = 15, at = c->at;
	if ((src & 0xff) == STAMP) {
		may = src >> 12;
		mark = src >> 8 & 15;
	}
	int anew = may == 15 && mark != own;
	if (anew && at > 0)
		at = -1;
	int left = (int)c->length - 1 - at;
	if (left > may)
		left = may;
	if (anew)
		mark = own;
	else if (mark != own)
		mark = 0;
	if (left <= 0)
		return mark ? LAST_IN_CHAIN : DISAGREED;
	const struct server *next = member(s, c, c->length - left);
	if (!next)
		return DISAGREED;
	address(f->data, next, left - 1, mark, port->self_last4);
	return RELAYED;
}

/* What becomes of a packet of a service. */
INLINE enum reason answer(struct __sk_buff *skb, const struct frame *f, const struct state *s, const struct flow *w, const struct service *v, const struct port *port)
{
	struct chain c = {};
	if (w->protocol != TCP)
		return DATAGRAM;
	int opens = w->kind != ICMP_ERROR && (w->flags & (FLAG_SYN | FLAG_ACK)) == FLAG_SYN;
	if (!opens && has(skb, f, w, port))
		return HELD;
	if (!chain(&c, s, w, v, port))
		return LAST_IN_CHAIN;
	return opens && c.at >= 0 ? NEW_FLOW : relay(f, s, &c, v->mark, port);
}

INLINE int verdict(__u32 counter, enum reason r, __u32 length)
{
	count(counter, r, length);
	return r == RELAYED ? FORWARD : r == NOT_ALLOWED || r == DISAGREED ? DROP : PASS;
}

static __noinline enum reason parse_tcx(struct __sk_buff *skb, struct flow *w)
{
	struct frame f = { (void *)(long)skb->data, (void *)(long)skb->data_end, skb->len };
	return skb->vlan_present ? NOT_IP : parse_frame(&f, w);
}

INLINE int decide(struct __sk_buff *skb, const struct port *port)
{
	struct flow *w = parse_to();
	struct state *s = current();
	struct service *v = 0;
	if (!w || !s)
		return PASS;
	enum reason r = parse_tcx(skb, w);
	if (r == SHORT && !bpf_skb_pull_data(skb, skb->len))
		r = parse_tcx(skb, w);
	struct frame f = { (void *)(long)skb->data, (void *)(long)skb->data_end, skb->len };
	if (f.data + ETH > f.end)
		return verdict(0, NOT_IP, f.length);
	if (!is(f.data, port->self.first4, port->self.last2))
		return verdict(0, NOT_FOR_US, f.length);
	if (r == PLACED)
		r = place(w, s, &v);
	if (r != PLACED || !v)
		return verdict(0, r == SHORT ? OTHER : r, f.length);
	return verdict(v->counter, answer(skb, &f, s, w, v, port), f.length);
}

SEC("tcx/egress") int relay_tcx(struct __sk_buff *skb)
{
	__u32 index = skb->ifindex;
	struct port *port = bpf_map_lookup_elem(&ports, &index);
	if (!port)
		return TCX_NEXT;
	int action = decide(skb, port);
	if (action == FORWARD)
		return bpf_redirect(port->out, port->flags);
	return action == DROP ? TCX_DROP : TCX_NEXT;
}
