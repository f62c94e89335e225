package main

// routers are the ways in which routers spread flows over next hops. Each tells the director of a flow by the router's hash, of
// those that are alive, in ascending order.
var routers = []struct {
	name   string
	choose func(hash uint64, alive []int) int
}{
	{"modulo", func(hash uint64, alive []int) int { return alive[hash%uint64(len(alive))] }},
	{"threshold", func(hash uint64, alive []int) int { return alive[(hash>>32)*uint64(len(alive))>>32] }},
	{"resilient", resilient},
}

// buckets of the resilient table. Those of a next hop that is gone go to the others in turn; all others stay (RFC 2992 is the
// threshold; Linux calls this one nexthop groups of type resilient).
const buckets = 1024

func resilient(hash uint64, alive []int) int {
	bucket := int(hash % buckets)
	for _, d := range alive {
		if d == bucket%directors {
			return d
		}
	}
	return alive[bucket/directors%len(alive)]
}

// mix is the router's hash of a flow's number: any that is not the directors' (splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
