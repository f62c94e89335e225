/* SPDX-License-Identifier: GPL-2.0 */
/* From a frame to a flow: what Parse of executor/lb does, in the same order. */
#pragma once
#include "state.h"

#define ETH 14
#define TCP 6
#define UDP 17
#define ICMP4 1
#define ICMP6 58
#define EXTENSIONS 8
#define STAMP 0x0e        /* begins the source addresses that directors and relays write */

#define FLAG_SYN 0x02
#define FLAG_ACK 0x10

struct eth { __u16 dst[3], src[3]; __be16 type; };
struct ip4 { __u8 version_ihl, tos; __be16 length, id, fragment; __u8 ttl, protocol; __be16 checksum; __be32 src, dst; };
struct ip6 { __be32 version_class_flow; __be16 length; __u8 next, hops; __u32 src[4], dst[4]; };
struct extension { __u8 next, length, type, left; __be32 id; };
struct tcp { __be16 src, dst; __be32 seq, ack; __u8 offset, flags; __be16 window, checksum, urgent; };
struct udp { __be16 src, dst, length, checksum; };
struct icmp { __u8 type, code; __be16 checksum; __u32 rest; };

enum kind { WHOLE, FIRST_FRAGMENT, LATER_FRAGMENT, ICMP_ERROR };

/* A packet of a flow from a client to a VIP. Addresses and ports are bytes of the packet, read little-endian; IPv4 has the
 * first word of each address alone. */
struct flow {
	__u64 src[2], dst[2];
	__be16 sport, dport;
	__u8 protocol, six, kind, flags;
	__be32 ack, id;
	__u8 fragment_protocol;
	__u16 transport;  /* offset of the TCP header */
};

/* What there is of a frame: its first bytes to read, its whole length to judge. */
struct frame { void *data, *end; __u32 length; };

/* n bytes at an offset, or 0. No offset is above 14 + 40 + 8 * 2048 + 100. */
INLINE void *peek(const struct frame *f, __u32 offset, __u32 n)
{
	BARRIER(offset);
	if (offset > 0x7fff)
		return 0;
	void *p = f->data + offset;
	return p + n > f->end ? 0 : p;
}

INLINE __u64 word(const __u32 *w) { return w[0] | (__u64)w[1] << 32; }

INLINE enum reason transport(const struct frame *f, struct flow *w, __u32 offset, __u32 total)
{
	if (w->protocol == TCP) {
		if (offset + sizeof(struct tcp) > total)
			return MALFORMED;
		struct tcp *t = peek(f, offset, sizeof *t);
		if (!t)
			return SHORT;
		w->flags = t->flags;
		w->ack = t->ack;
		w->sport = t->src;
		w->dport = t->dst;
		w->transport = offset;
		return PLACED;
	}
	if (w->protocol == UDP) {
		if (offset + sizeof(struct udp) > total)
			return MALFORMED;
		struct udp *u = peek(f, offset, sizeof *u);
		if (!u)
			return SHORT;
		w->sport = u->src;
		w->dport = u->dst;
		return PLACED;
	}
	return OTHER;
}

/* The packet inside of an ICMP error: the real server sent it, so its flow is turned round. */
INLINE enum reason icmp4(const struct frame *f, struct flow *w, __u32 offset, __u32 total)
{
	if (offset + sizeof(struct icmp) > total)
		return MALFORMED;
	struct icmp *m = peek(f, offset, sizeof *m);
	if (!m)
		return SHORT;
	if (m->type != 3 && m->type != 11 && m->type != 12)
		return OTHER;
	offset += sizeof *m;
	if (offset + sizeof(struct ip4) > total)
		return MALFORMED;
	struct ip4 *ip = peek(f, offset, sizeof *ip);
	if (!ip)
		return SHORT;
	__u32 header = (ip->version_ihl & 15) * 4;
	if (ip->version_ihl >> 4 != 4 || header < sizeof *ip || offset + header + 8 > total)
		return MALFORMED;
	if (ip->fragment & bpf_htons(0x1fff))
		return OTHER;
	if (ip->protocol != TCP && ip->protocol != UDP)
		return OTHER;
	if (ip->src != (__u32)w->dst[0])
		return MALFORMED;
	w->protocol = ip->protocol;
	w->src[0] = ip->dst;
	struct udp *u = peek(f, offset + header, sizeof *u);
	if (!u)
		return SHORT;
	w->sport = u->dst;
	w->dport = u->src;
	w->kind = ICMP_ERROR;
	return PLACED;
}

INLINE enum reason icmp6(const struct frame *f, struct flow *w, __u32 offset, __u32 total)
{
	if (offset + sizeof(struct icmp) > total)
		return MALFORMED;
	struct icmp *m = peek(f, offset, sizeof *m);
	if (!m)
		return SHORT;
	if (m->type < 1 || m->type > 4)
		return OTHER;
	offset += sizeof *m;
	struct { struct ip6 ip; struct udp u; } *in;
	if (offset + sizeof *in > total)
		return MALFORMED;
	in = peek(f, offset, sizeof *in);
	if (!in)
		return SHORT;
	if ((in->ip.version_class_flow & 0xf0) != 0x60)
		return MALFORMED;
	if (in->ip.next != TCP && in->ip.next != UDP)
		return OTHER;
	if (word(in->ip.src) != w->dst[0] || word(in->ip.src + 2) != w->dst[1])
		return MALFORMED;
	w->protocol = in->ip.next;
	w->src[0] = word(in->ip.dst);
	w->src[1] = word(in->ip.dst + 2);
	w->sport = in->u.dst;
	w->dport = in->u.src;
	w->kind = ICMP_ERROR;
	return PLACED;
}

INLINE enum reason parse4(const struct frame *f, struct flow *w)
{
	struct ip4 *ip = peek(f, ETH, sizeof *ip);
	if (!ip)
		return f->length < ETH + sizeof *ip ? MALFORMED : SHORT;
	__u32 header = (ip->version_ihl & 15) * 4, total = bpf_ntohs(ip->length);
	if (ip->version_ihl >> 4 != 4 || header < sizeof *ip || total < header || ETH + total > f->length)
		return MALFORMED;
	w->src[0] = ip->src;
	w->dst[0] = ip->dst;
	w->protocol = ip->protocol;
	total += ETH;
	if (ip->fragment & bpf_htons(0x3fff)) {
		if (ip->protocol != TCP && ip->protocol != UDP)
			return OTHER;
		w->id = ip->id;
		w->fragment_protocol = ip->protocol;
		if (ip->fragment & bpf_htons(0x1fff)) {
			w->kind = LATER_FRAGMENT;
			return PLACED;
		}
		w->kind = FIRST_FRAGMENT;
	} else if (ip->protocol == ICMP4) {
		return icmp4(f, w, ETH + header, total);
	}
	return transport(f, w, ETH + header, total);
}

INLINE enum reason parse6(const struct frame *f, struct flow *w)
{
	struct ip6 *ip = peek(f, ETH, sizeof *ip);
	if (!ip)
		return f->length < ETH + sizeof *ip ? MALFORMED : SHORT;
	__u32 total = ETH + sizeof *ip + bpf_ntohs(ip->length), offset = ETH + sizeof *ip;
	if ((ip->version_class_flow & 0xf0) != 0x60 || total > f->length)
		return MALFORMED;
	w->six = 1;
	w->src[0] = word(ip->src);
	w->src[1] = word(ip->src + 2);
	w->dst[0] = word(ip->dst);
	w->dst[1] = word(ip->dst + 2);
	__u8 next = ip->next;
#pragma clang loop unroll(disable)
	for (int i = 0; i < EXTENSIONS; i++) {
		if (next != 0 && next != 60 && next != 43 && next != 44)
			break;
		if (offset + sizeof(struct extension) > total)
			return MALFORMED;
		struct extension *x = peek(f, offset, sizeof *x);
		if (!x)
			return SHORT;
		__u32 size = 8;
		if (next != 44) {
			if (next == 43 && x->left)
				return OTHER;
			size += x->length * 8;
			if (offset + size > total)
				return MALFORMED;
		} else {
			if (w->kind != WHOLE)
				return MALFORMED;
			__u16 fragment = x->type << 8 | x->left;
			if (fragment & 0xfff9) {
				w->id = x->id;
				w->kind = FIRST_FRAGMENT;
				if (fragment & 0xfff8) {
					w->kind = LATER_FRAGMENT;
					return PLACED;
				}
			}
		}
		next = x->next;
		offset += size;
	}
	w->protocol = next;
	if (next == ICMP6 && w->kind == WHOLE)
		return icmp6(f, w, offset, total);
	return transport(f, w, offset, total);
}

INLINE enum reason parse_frame(const struct frame *f, struct flow *w)
{
	struct eth *eth = f->data;
	if ((void *)(eth + 1) > f->end)
		return NOT_IP;
	if (eth->type == bpf_htons(0x0800))
		return parse4(f, w);
	if (eth->type == bpf_htons(0x86dd))
		return parse6(f, w);
	return NOT_IP;
}

/* Where packets are read that take more than one way to be read: in a map, because of what is there the verifier knows
 * nothing. It would go on with every way separately, and give up. */
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct flow); } scratch SEC(".maps");

INLINE struct flow *parse_to(void)
{
	__u32 zero = 0;
	struct flow *w = bpf_map_lookup_elem(&scratch, &zero);
	if (w)
		__builtin_memset(w, 0, sizeof *w);
	return w;
}

/* The same for what nearly all packets are: whole, IPv4 without options, TCP or UDP, all in sight. 0: see parse. Everything
 * is at a constant place, and the compiler can leave out what follows for other packets. */
INLINE int plain(const struct frame *f, struct flow *w)
{
	struct eth *eth = f->data;
	struct ip4 *ip = f->data + ETH;
	struct tcp *t = f->data + ETH + sizeof *ip;
	if ((void *)(t + 1) > f->end || eth->type != bpf_htons(0x0800) || ip->version_ihl != 0x45 || ip->fragment & bpf_htons(0x3fff))
		return 0;
	__u32 total = bpf_ntohs(ip->length);
	if (ETH + total > f->length)
		return 0;
	w->protocol = ip->protocol;
	if (w->protocol == TCP ? total < 20 + sizeof(struct tcp) : w->protocol != UDP || total < 20 + sizeof(struct udp))
		return 0;
	w->src[0] = ip->src;
	w->dst[0] = ip->dst;
	w->sport = t->src;
	w->dport = t->dst;
	return 1;
}
