/* SPDX-License-Identifier: GPL-2.0 */
/* What the programs share with state.go: the layout of a generation, and how a flow finds its place in it.
 *
 * A generation is one value, `struct state`, in a map that user space fills before the programs can see it and then puts into
 * `states`: one pointer switch for everything, after which the kernel waits until no program uses the old one. Tables are too
 * large to be written anew each time; they are in `pages`, where tables of old and new generation are beside one another. */
#pragma once
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define INLINE static __always_inline

/* Why a packet went where it went: Reason of executor/lb. */
enum reason {
	PLACED, NOT_FOR_US, NOT_IP, MALFORMED, OTHER, NO_SERVICE, FRAGMENT_UNKNOWN, NOT_ALLOWED, NO_SERVER,
	NEW_FLOW, DATAGRAM, HELD, LAST_IN_CHAIN, RELAYED, DISAGREED, REASONS,
	SHORT = REASONS,  /* not yet known: the headers are not all where the program can see them */
};

#define SERVICES 4096     /* cells; half of them can be used */
#define BUCKETS 1024      /* of the perfect hash that finds the cell of a key */
#define SERVERS 16384
#define PAGE_BYTES (4 << 20)
#define PAGES 256
#define CHAIN 15          /* servers in a chain: the owner and the former ones */
#define NOBODY 0xffff     /* in place of a slot's owner */

/* What is looked up: IPv4 in addr[0] alone. ports: destination port as in the packet, read little-endian | protocol << 16 |
 * family (4, 6) << 24. */
struct key { __u64 addr[2]; __u32 ports; };

enum {
	F_BY_SOURCE = 1,  /* scheduler sh: hash the source address only */
	F_ALLOW = 2,      /* there is an allow list */
	F_RANGES = 4,     /* the cell of port 0: the port ranges of an address and protocol, not a service */
};

/* A service, one cache line. Positions count 64 bytes in `pages`. */
struct service {
	__u64 addr[2];    /* the key */
	__u32 ports;
	__u32 flags;
	__u64 seed;       /* of the hash of flows */
	__u32 size;       /* slots of the table */
	__u32 counter;    /* index in `counters` */
	__u32 slots;      /* position of __u16[size]: the servers that own the slots, or NOBODY */
	__u32 chains;     /* position of __u32[size]: where the list of the slot's former owners is, in lists; 0: there are none */
	__u32 unused;
	__u32 allow;      /* position of the allowed clients, or of the port ranges: ascending and disjoint intervals */
	__u16 allowed;    /* how many */
	__u8 mark;        /* what stamps say of the generation */
	__u8 unused2;
};

struct list { __u16 count, server[CHAIN]; };
struct range4 { __u32 first, last; };                    /* in the processor's order */
struct range6 { struct { __u64 high, low; } first, last; };
struct range_ports { __u16 first, last; __u32 cell; };   /* cell: where the service is in services[] */

struct mac { __u32 first4; __u16 last2, unused; };       /* bytes as they come */
struct server { struct mac mac; };

struct state {
	__u64 seed;       /* of the hash of keys */
	__u64 unused[7];
	struct service services[SERVICES];
	__u32 displace[BUCKETS];
	struct server servers[SERVERS];
};

struct page { __u8 bytes[PAGE_BYTES]; };

struct states_inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __uint(map_flags, BPF_F_MMAPABLE); __uint(key_size, 4); __uint(value_size, sizeof(struct state)); };
struct pages_inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __uint(map_flags, BPF_F_MMAPABLE); __uint(key_size, 4); __uint(value_size, sizeof(struct page)); };
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 1); __type(key, __u32); __array(values, struct states_inner); } states SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, PAGES); __type(key, __u32); __array(values, struct pages_inner); } pages SEC(".maps");

/* What happened, per processor: entry 0 of all that belongs to no service, the others of one service each. */
struct counter { __u64 bytes, packets[REASONS]; };
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct counter); } counters SEC(".maps");

INLINE void count(__u32 i, enum reason why, __u64 bytes)
{
	struct counter *c = bpf_map_lookup_elem(&counters, &i);
	if (!c)
		return;
	c->packets[why]++;
	c->bytes += bytes;
}

INLINE struct state *current(void)
{
	__u32 zero = 0;
	void *inner = bpf_map_lookup_elem(&states, &zero);
	return inner ? bpf_map_lookup_elem(inner, &zero) : 0;
}

/* Keeps the compiler from undoing what proves an index to be within its bounds. */
#define BARRIER(x) asm volatile("" : "+r"(x))

/* The n bytes at a position plus offset; n is a constant. Nothing that is looked up crosses the end of a page. */
INLINE void *at(__u32 position, __u32 offset, __u32 n)
{
	__u64 byte = (__u64)position * 64 + offset;
	__u32 page = byte / PAGE_BYTES, zero = 0;
	void *inner = bpf_map_lookup_elem(&pages, &page);
	struct page *p = inner ? bpf_map_lookup_elem(inner, &zero) : 0;
	if (!p)
		return 0;
	byte &= PAGE_BYTES - 1;
	BARRIER(byte);
	if (byte > PAGE_BYTES - n)
		return 0;
	return p->bytes + byte;
}

#define K1 0xff51afd7ed558ccdull
#define K2 0xc4ceb9fe1a85ec53ull

INLINE __u64 absorb(__u64 h, __u64 w) { h = (h ^ w) * K1; return h ^ h >> 32; }
INLINE __u64 finish(__u64 h) { h *= K2; return h ^ h >> 32; }

/* The cell that a key would be in: a perfect hash, so that a look-up touches one bucket and one cell, found or not. */
INLINE struct service *find(struct state *s, const struct key *k, int six)
{
	__u64 h = s->seed;
	if (six)
		h = absorb(absorb(absorb(h, k->addr[0]), k->addr[1]), k->ports);
	else
		h = absorb(h, k->addr[0] | (__u64)k->ports << 32);
	h = finish(h);
	__u32 d = s->displace[h & (BUCKETS - 1)];
	struct service *v = &s->services[(h >> 32 ^ d) & (SERVICES - 1)];
	if (v->addr[0] != k->addr[0] || v->ports != k->ports || (six && v->addr[1] != k->addr[1]))
		return 0;
	return v;
}

/* The service of an address, port (as in the packet) and protocol. */
INLINE struct service *listener(struct state *s, const __u64 *addr, __be16 port, __u8 protocol, int six)
{
	struct key k = { .addr = { addr[0], addr[1] }, .ports = port | (__u32)protocol << 16 | (six ? 6u : 4u) << 24 };
	struct service *v = find(s, &k, six);
	if (v && !(v->flags & F_RANGES))
		return v;
	k.ports &= 0xffff0000;
	v = find(s, &k, six);
	if (!v)
		return 0;
	__u32 low = 0, high = v->allowed;
	for (int i = 0; i < 17 && low < high; i++) {
		__u32 middle = (low + high) / 2;
		struct range_ports *r = at(v->allow, middle * sizeof *r, sizeof *r);
		if (!r)
			return 0;
		if (bpf_ntohs(port) < r->first)
			high = middle;
		else if (bpf_ntohs(port) > r->last)
			low = middle + 1;
		else
			return &s->services[r->cell & (SERVICES - 1)];
	}
	return 0;
}
