package webhooks

import (
	"hash/maphash"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// buckets is how many callers, and how many sources by caller, are told apart. Those that share a bucket share its limit; which
// ones do differs from start to start, so that nobody can choose to share with somebody.
const buckets = 1024

// Calls a second, and how many at once: of one caller for one source, of one caller, and of all. One caller cannot use
// up what another one may for the same source.
const (
	pairRate, pairBurst     = 2, 30
	callerRate, callerBurst = 10, 100
	allRate, allBurst       = 100, 300
)

// limits bounds calls before anything is known of them.
type limits struct {
	seed           maphash.Seed
	pairs, callers [buckets]*rate.Limiter
	all            *rate.Limiter
}

func newLimits() *limits {
	l := &limits{seed: maphash.MakeSeed(), all: rate.NewLimiter(allRate, allBurst)}
	for i := range buckets {
		l.pairs[i], l.callers[i] = rate.NewLimiter(pairRate, pairBurst), rate.NewLimiter(callerRate, callerBurst)
	}
	return l
}

// allow tells whether one more call may be looked at.
func (l *limits) allow(address, source string, now time.Time) bool {
	who := caller(address)
	pair := l.pairs[maphash.String(l.seed, who+"\x00"+source)%buckets]
	return pair.AllowN(now, 1) && l.callers[maphash.String(l.seed, who)%buckets].AllowN(now, 1) && l.all.AllowN(now, 1)
}

// caller is who calls: an address, or the network of an IPv6 address, of which everybody has many.
func caller(address string) string {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return address
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
