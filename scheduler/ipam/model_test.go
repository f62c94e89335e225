package ipam

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// world is a Book under test, and beside it, the slow way, everything that was told to it.
type world struct {
	book *Book
	// twin is told the same and must answer the same: the order of Go's maps decides nothing.
	twin    *Book
	cluster *padisv1.Cluster
	apps    map[string]*padisv1.WantedApp
	leases  map[string]*padisv1.LeaseRecord // by ledger key
	now     int64
}

func spanOf(r *padisv1.AddressRange) (from, to netip.Addr) {
	from = netip.MustParseAddr(r.GetFrom())
	if r.GetTo() == "" {
		return from, from
	}
	return from, netip.MustParseAddr(r.GetTo())
}

func inSpans(a netip.Addr, spans []*padisv1.AddressRange) bool {
	return slices.ContainsFunc(spans, func(r *padisv1.AddressRange) bool {
		from, to := spanOf(r)
		return from.Compare(a) <= 0 && a.Compare(to) <= 0
	})
}

func (w *world) pool(name string) *padisv1.Pool {
	i := slices.IndexFunc(w.cluster.GetPools(), func(p *padisv1.Pool) bool { return p.GetName() == name })
	if i < 0 {
		return nil
	}
	return w.cluster.GetPools()[i]
}

func last(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr()
	for p.Contains(a.Next()) {
		a = a.Next()
	}
	return a
}

// obstacle is why a pool does not give an address; empty if it does.
func (w *world) obstacle(p *padisv1.Pool, a netip.Addr) string {
	if !netip.MustParsePrefix(p.GetCidr()).Contains(a) {
		return padisv1.ReasonAddressOutsidePool
	}
	for _, q := range w.cluster.GetPools() {
		prefix := netip.MustParsePrefix(q.GetCidr())
		edge := prefix.Bits() < 31 && (a == prefix.Masked().Addr() || a == last(prefix))
		if q.GetNetwork() == p.GetNetwork() && (edge || q.GetGateway() == a.String()) {
			return padisv1.ReasonAddressReserved
		}
	}
	if inSpans(a, p.GetReserved()) {
		return padisv1.ReasonAddressReserved
	}
	if len(p.GetRanges()) > 0 && !inSpans(a, p.GetRanges()) {
		return padisv1.ReasonAddressOutsidePool
	}
	return ""
}

// gives lists what a pool may hand out.
func (w *world) gives(p *padisv1.Pool) []string {
	var out []string
	prefix := netip.MustParsePrefix(p.GetCidr())
	for a := prefix.Masked().Addr(); prefix.Contains(a); a = a.Next() {
		if w.obstacle(p, a) == "" {
			out = append(out, a.String())
		}
	}
	return out
}

// wished tells whether an address of a network is somebody's fixed wish that could be granted.
func (w *world) wished(network, address string) bool {
	for _, app := range w.apps {
		for _, r := range app.GetRevisions() {
			for _, n := range r.GetNetworks() {
				p := w.pool(n.GetPool())
				if p != nil && p.GetNetwork() == network && slices.Contains(n.GetAddresses(), address) && serves(p, app.GetNamespace()) &&
					w.obstacle(p, netip.MustParseAddr(address)) == "" {
					return true
				}
			}
		}
	}
	return false
}

func serves(p *padisv1.Pool, namespace string) bool {
	return len(p.GetNamespaces()) == 0 || slices.Contains(p.GetNamespaces(), namespace)
}

// choosable lists what a pool may choose for a wish without an address.
func (w *world) choosable(p *padisv1.Pool) []string {
	var out []string
	for _, a := range w.gives(p) {
		if w.leases[record.LeaseKey(p.GetNetwork(), a)] == nil && !w.wished(p.GetNetwork(), a) {
			out = append(out, a)
		}
	}
	return out
}

// check compares everything that can be asked of the Book with what was told to it, and with a Book made anew.
func (w *world) check(t *rapid.T) {
	var all []*padisv1.LeaseRecord
	for _, l := range w.leases {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *padisv1.LeaseRecord) int { return cmp.Compare(a.GetAddress(), b.GetAddress()) })
	again := New(w.cluster, all)
	var apps []*padisv1.WantedApp
	for _, a := range w.apps {
		apps = append(apps, a)
	}
	again.SetApps(apps)
	held := 0
	for _, slot := range slots {
		mine := w.book.Held(slot)
		held += len(mine)
		if !slices.EqualFunc(mine, again.Held(slot), func(a, b *padisv1.LeaseRecord) bool { return a == b }) {
			t.Fatalf("%s holds %v, made anew %v", slot, mine, again.Held(slot))
		}
		for _, l := range mine {
			if w.leases[record.LeaseKey(l.GetNetwork(), l.GetAddress())] != l {
				t.Fatalf("%v is held, but not leased", l)
			}
		}
	}
	if held != len(w.leases) {
		t.Fatalf("%d held of %d leases: an address is leased twice, or not at all", held, len(w.leases))
	}
	if !slices.EqualFunc(w.book.Flagged(), again.Flagged(), func(a, b Flag) bool { return a == b }) {
		t.Fatalf("flagged %v\nmade anew %v", w.book.Flagged(), again.Flagged())
	}
	for _, p := range w.cluster.GetPools() {
		w.checkPool(t, p, again)
	}
}

func (w *world) checkPool(t *rapid.T, p *padisv1.Pool, again *Book) {
	name := p.GetName()
	c, a, f := w.book.Usage(name)
	c2, a2, f2 := again.Usage(name)
	gives := w.gives(p)
	var leased, taken int64
	for _, l := range w.leases {
		if l.GetPool() == name && l.GetNetwork() == p.GetNetwork() {
			leased++
		}
		if l.GetNetwork() == p.GetNetwork() && slices.Contains(gives, l.GetAddress()) {
			taken++
		}
	}
	if c != int64(len(gives)) || a != leased || f != c-taken || c != c2 || a != a2 || f != f2 {
		t.Fatalf("pool %s: %d, %d, %d; made anew %d, %d, %d; should be %d, %d, %d", name, c, a, f, c2, a2, f2, len(gives), leased, int64(len(gives))-taken)
	}
	want := w.choosable(p)
	for _, b := range []*Book{w.book, again} {
		if got := b.pools[name].all(); !slices.Equal(got, want) {
			t.Fatalf("pool %s can choose of %v, should be %v", name, got, want)
		}
	}
}

// all lists what can be chosen, ascending.
func (p *pool) all() []string {
	var list []address
	seen := map[address]bool{}
	for {
		a, ok := p.choose(func(a address) bool { return seen[a] })
		if !ok {
			break
		}
		seen[a] = true
		list = append(list, a)
	}
	slices.Sort(list)
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

var slots = func() (out []record.Slot) {
	for _, uid := range []string{"u1", "u2"} {
		for i := range int32(7) {
			out = append(out, record.Slot{AppUID: uid, Index: i})
		}
	}
	return out
}()

func drawCluster(t *rapid.T) *padisv1.Cluster {
	c := &padisv1.Cluster{}
	for _, n := range []string{"lan", "dmz"} {
		if rapid.IntRange(0, 9).Draw(t, "network") > 0 {
			c.Networks = append(c.Networks, &padisv1.Network{Name: n})
		}
	}
	cidrs := []string{"10.0.0.0/28", "10.0.0.8/29", "10.0.0.0/29", "10.0.0.4/30", "10.0.0.6/31", "10.0.0.9/32", "10.0.0.3/28"}
	for _, name := range []string{"a", "b", "c"} {
		if rapid.IntRange(0, 9).Draw(t, "pool") == 0 {
			continue
		}
		p := &padisv1.Pool{Name: name, Network: rapid.SampledFrom([]string{"lan", "lan", "dmz"}).Draw(t, "of"),
			Cidr:       rapid.SampledFrom(cidrs).Draw(t, "cidr"),
			Gateway:    rapid.SampledFrom([]string{"", "10.0.0.1", "10.0.0.9"}).Draw(t, "gateway"),
			Namespaces: rapid.SampledFrom([][]string{nil, nil, nil, {"shop"}}).Draw(t, "namespaces")}
		p.Ranges = rapid.SliceOfN(rapid.Custom(drawRange), 0, 2).Draw(t, "ranges")
		p.Reserved = rapid.SliceOfN(rapid.Custom(drawRange), 0, 1).Draw(t, "reserved")
		c.Pools = append(c.Pools, p)
	}
	return c
}

func drawRange(t *rapid.T) *padisv1.AddressRange {
	from := rapid.IntRange(0, 17).Draw(t, "from")
	to := rapid.IntRange(from, 20).Draw(t, "to")
	r := &padisv1.AddressRange{From: fmt.Sprintf("10.0.0.%d", from), To: fmt.Sprintf("10.0.0.%d", to)}
	if from == to && rapid.Bool().Draw(t, "single") {
		r.To = ""
	}
	return r
}

func drawWishes(t *rapid.T) []*padisv1.NetworkWish {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *padisv1.NetworkWish {
		n := &padisv1.NetworkWish{Pool: rapid.SampledFrom([]string{"a", "a", "b", "c"}).Draw(t, "pool")}
		for range rapid.SampledFrom([]int{0, 0, 0, 2, 5}).Draw(t, "addresses") {
			text := ""
			if rapid.Bool().Draw(t, "fixed") {
				text = fmt.Sprintf("10.0.0.%d", rapid.IntRange(0, 17).Draw(t, "address"))
			}
			n.Addresses = append(n.Addresses, text)
		}
		return n
	}), 0, 3).Draw(t, "wishes")
}

// After any history the Book is as one made anew of the leases that are left, no address is leased twice, and each
// answer is the one that the definitions give.
func TestABookIsWhatItsLeasesMakeIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{cluster: drawCluster(t), apps: map[string]*padisv1.WantedApp{}, leases: map[string]*padisv1.LeaseRecord{}, now: 1000}
		w.book, w.twin = New(w.cluster, nil), New(w.cluster, nil)
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { w.check(t) },
			"lease": func(t *rapid.T) {
				w.now += rapid.Int64Range(-2, 5).Draw(t, "passes")
				slot := rapid.SampledFrom(slots).Draw(t, "slot")
				networks := drawWishes(t)
				if app := w.apps[slot.AppUID]; app != nil && rapid.Bool().Draw(t, "asDeclared") {
					networks = app.GetRevisions()[0].GetNetworks()
				}
				w.lease(t, Want{Slot: slot, Namespace: namespaceOf(slot.AppUID), App: slot.AppUID, Networks: networks, NowMs: w.now})
			},
			"release": func(t *rapid.T) {
				slot := rapid.SampledFrom(slots).Draw(t, "slot")
				w.twin.Release(slot)
				for _, l := range w.book.Release(slot) {
					delete(w.leases, record.LeaseKey(l.GetNetwork(), l.GetAddress()))
				}
			},
			"free": func(t *rapid.T) {
				slot := rapid.SampledFrom(slots).Draw(t, "slot")
				for _, l := range w.book.Held(slot) {
					if rapid.Bool().Draw(t, "this") {
						delete(w.leases, record.LeaseKey(l.GetNetwork(), l.GetAddress()))
						w.twin.Free(l)
						if !w.book.Free(proto.CloneOf(l)) || w.book.Free(l) {
							t.Fatalf("%v was not freed once", l)
						}
					}
				}
			},
			"cluster": func(t *rapid.T) {
				w.cluster = drawCluster(t)
				w.book.SetCluster(w.cluster)
				w.twin.SetCluster(w.cluster)
			},
			"app": func(t *rapid.T) {
				uid := rapid.SampledFrom([]string{"u1", "u2", "u3"}).Draw(t, "app")
				if rapid.IntRange(0, 3).Draw(t, "forget") == 0 {
					delete(w.apps, uid)
					w.book.ForgetApp(uid)
					w.twin.ForgetApp(uid)
					return
				}
				w.apps[uid] = &padisv1.WantedApp{Uid: uid, Namespace: namespaceOf(uid), Revisions: []*padisv1.Revision{{Networks: drawWishes(t)}}}
				w.book.SetApp(w.apps[uid])
				w.twin.SetApp(w.apps[uid])
			},
			"apps": func(t *rapid.T) {
				var apps []*padisv1.WantedApp
				for _, uid := range slices.Sorted(maps.Keys(w.apps)) {
					if rapid.Bool().Draw(t, "stays") {
						apps = append(apps, w.apps[uid])
					} else {
						delete(w.apps, uid)
					}
				}
				w.book.SetApps(apps)
				w.twin.SetApps(apps)
			},
		})
	})
}

func namespaceOf(uid string) string { return map[string]string{"u1": "shop"}[uid] }

// lease asks for addresses and holds the answer against the definitions.
func (w *world) lease(t *rapid.T, want Want) {
	before := w.book.Held(want.Slot)
	got, refusal := w.book.Lease(want)
	if other, no := w.twin.Lease(want); (no == nil) != (refusal == nil) || no != nil && *no != *refusal ||
		!slices.EqualFunc(got, other, func(a, b *padisv1.LeaseRecord) bool { return proto.Equal(a, b) }) {
		t.Fatalf("the book answers %v, %v; its twin %v, %v", got, refusal, other, no)
	}
	if refusal != nil {
		if !slices.Equal(before, w.book.Held(want.Slot)) || got != nil {
			t.Fatalf("refused, but changed: %v", got)
		}
		w.checkRefusal(t, want, refusal, before)
		return
	}
	seen := map[string]bool{}
	for i, l := range got {
		n := want.Networks[i]
		p := w.pool(n.GetPool())
		key := record.LeaseKey(l.GetNetwork(), l.GetAddress())
		a := netip.MustParseAddr(l.GetAddress())
		fixed, isFixed := fixedAddress(n, want.Slot.Index)
		kept := slices.Contains(before, l)
		holder := w.leases[key]
		switch {
		case seen[key]:
			t.Fatalf("%s is leased for two wishes", key)
		case l.GetPool() != p.GetName() || l.GetNetwork() != p.GetNetwork() || slotOf(l) != want.Slot || l.GetNamespace() != want.Namespace:
			t.Fatalf("wish %d for pool %s got %v", i, p.GetName(), l)
		case isFixed && l.GetAddress() != fixed:
			t.Fatalf("%s was wished for, but %s leased", fixed, l.GetAddress())
		case !kept && holder != nil && slotOf(holder) != want.Slot:
			t.Fatalf("%s is leased to %v already", key, holder)
		case !kept && w.obstacle(p, a) != "":
			t.Fatalf("%s was handed out: %s", key, w.obstacle(p, a))
		case !kept && !isFixed && w.wished(p.GetNetwork(), l.GetAddress()):
			t.Fatalf("%s was chosen, although somebody names it", key)
		}
		seen[key] = true
	}
	for _, l := range got {
		w.leases[record.LeaseKey(l.GetNetwork(), l.GetAddress())] = l
	}
	again, refusal := w.book.Lease(want)
	if refusal != nil || !slices.Equal(again, got) {
		t.Fatalf("asked again: %v, %v; first %v", again, refusal, got)
	}
	// What is held is what was given and what is stale, and no more.
	stale := w.book.Stale(want.Slot, want.Networks)
	if len(stale)+len(got) != len(w.book.Held(want.Slot)) || slices.ContainsFunc(stale, func(l *padisv1.LeaseRecord) bool { return slices.Contains(got, l) }) {
		t.Fatalf("held %v, given %v, stale %v", w.book.Held(want.Slot), got, stale)
	}
}

// checkRefusal tells whether some wish justifies the refusal.
func (w *world) checkRefusal(t *rapid.T, want Want, r *Refusal, before []*padisv1.LeaseRecord) {
	if r.Message == "" {
		t.Fatal("a refusal without a message")
	}
	asked := map[string]int{}
	for _, n := range want.Networks {
		p := w.pool(n.GetPool())
		network := slices.ContainsFunc(w.cluster.GetNetworks(), func(x *padisv1.Network) bool { return x.GetName() == p.GetNetwork() })
		fixed, isFixed := fixedAddress(n, want.Slot.Index)
		key := record.LeaseKey(p.GetNetwork(), fixed)
		justified := false
		switch r.Reason {
		case padisv1.ReasonPoolNotFound:
			justified = p == nil
		case padisv1.ReasonNetworkNotFound:
			justified = p != nil && !network
		case padisv1.ReasonPoolForbidden:
			justified = p != nil && !serves(p, want.Namespace)
		case padisv1.ReasonPoolExhausted:
			// The other wishes of the same call may have taken the rest.
			justified = p != nil && !isFixed && len(w.choosable(p)) < len(want.Networks)
		case padisv1.ReasonAddressInUse:
			asked[key]++
			holder := w.leases[key]
			justified = isFixed && (asked[key] > 1 || holder != nil && slotOf(holder) != want.Slot)
		case padisv1.ReasonAddressOutsidePool, padisv1.ReasonAddressReserved:
			justified = p != nil && (isFixed && w.obstacle(p, netip.MustParseAddr(fixed)) == r.Reason ||
				slices.ContainsFunc(before, func(l *padisv1.LeaseRecord) bool {
					return l.GetPool() == p.GetName() && w.obstacle(p, netip.MustParseAddr(l.GetAddress())) == r.Reason
				}))
		}
		if justified {
			return
		}
	}
	t.Fatalf("%s: %s, but nothing justifies it", r.Reason, r.Message)
}
