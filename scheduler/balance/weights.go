package balance

import (
	"math/bits"

	"padis.io/padis/executor/lb"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// weigh gives the weights of the servers that serve, whose backends are given by their index: as they are declared, if no
// backend has a percentage. Otherwise each backend with one gets its percentage of all, shared by its servers, and the rest
// goes to the others by their weights; the largest share is lb.MaxWeight.
func weigh(backends []*padisv1.Backend, serving map[string]int) map[string]uint32 {
	out := make(map[string]uint32, len(serving))
	count := make([]uint64, len(backends))
	var total, percents uint64
	for _, b := range serving {
		if count[b]++; backends[b].GetPercent() == 0 {
			total += weight(backends[b])
		}
	}
	for i, b := range backends {
		if count[i] > 0 {
			percents += uint64(max(0, b.GetPercent()))
		}
	}
	if percents == 0 {
		for id, b := range serving {
			out[id] = uint32(weight(backends[b]))
		}
		return out
	}
	rest := 100 - min(100, percents)
	// The share of one server is a/b.
	share := func(i int) (a, b uint64) {
		if p := backends[i].GetPercent(); p > 0 {
			return uint64(p), count[i]
		}
		return rest * weight(backends[i]), max(1, total)
	}
	topA, topB := uint64(0), uint64(1)
	for i := range backends {
		if count[i] > 0 {
			if a, b := share(i); a*topB > topA*b {
				topA, topB = a, b
			}
		}
	}
	for id, i := range serving {
		a, b := share(i)
		if a == 0 || topA == 0 {
			out[id] = 0
			continue
		}
		hi, lo := bits.Mul64(a*topB, 2*lb.MaxWeight)
		q, _ := bits.Div64(hi, lo, b*topA)
		out[id] = uint32(max(1, (q+1)/2))
	}
	return out
}

// weight is what a backend without a percentage gives each of its servers.
func weight(b *padisv1.Backend) uint64 { return uint64(min(lb.MaxWeight, max(0, b.GetWeight()))) }
