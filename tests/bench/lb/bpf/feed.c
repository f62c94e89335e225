//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 */
/* Feeds a program with flows: each run makes the frame that of the next flow, then goes on in the program that is measured, so
 * that one BPF_PROG_TEST_RUN sees a million flows. And the floor: programs that pass. */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

#define FLOWS 1000000
#define FRAME 74

struct flow { __u32 src, dst; __u16 sport, dport; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, FLOWS); __type(key, __u32); __type(value, struct flow); } flows SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1); __uint(key_size, 4); __uint(value_size, 4); } measured SEC(".maps");

struct header { __u16 dst[3], src[3], type; __u8 ip[12]; __u16 addresses[4], ports[2]; };

const volatile __u16 dst[3] = {};
__u32 next = 0;

static __always_inline int feed(void *data, void *end)
{
	struct header *h = data;
	__u32 i = next;
	next = i + 1 < FLOWS ? i + 1 : 0;
	struct flow *f = bpf_map_lookup_elem(&flows, &i);
	if (!f || (void *)(h + 1) > end)
		return 0;
	h->dst[0] = dst[0];
	h->dst[1] = dst[1];
	h->dst[2] = dst[2];
	h->type = bpf_htons(0x0800);
	h->addresses[0] = f->src;
	h->addresses[1] = f->src >> 16;
	h->addresses[2] = f->dst;
	h->addresses[3] = f->dst >> 16;
	h->ports[0] = f->sport;
	h->ports[1] = f->dport;
	return 1;
}

SEC("xdp") int feed_xdp(struct xdp_md *ctx)
{
	/* Programs that encapsulate leave the frame longer. */
	int longer = (int)(ctx->data_end - ctx->data) - FRAME;
	if (longer && bpf_xdp_adjust_head(ctx, longer))
		return XDP_ABORTED;
	if (!feed((void *)(long)ctx->data, (void *)(long)ctx->data_end))
		return XDP_ABORTED;
	bpf_tail_call(ctx, &measured, 0);
	return XDP_ABORTED;
}

SEC("tc") int feed_tcx(struct __sk_buff *skb)
{
	if (!feed((void *)(long)skb->data, (void *)(long)skb->data_end))
		return 2;
	bpf_tail_call(skb, &measured, 0);
	return 2;
}

SEC("xdp") int pass_xdp(struct xdp_md *ctx) { return XDP_PASS; }
SEC("tc") int pass_tcx(struct __sk_buff *skb) { return -1; }
