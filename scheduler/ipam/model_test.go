package ipam

import (
	"cmp"
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
	leases  map[string]*padisv1.LeaseRecord // by ledger key; those that cool, too
	foreign map[string]map[string]string    // who, by network and address
	// counted is how many addresses a pool may have of which the Book has a bit for each. The Book made anew has the other
	// kind of pools: what can be chosen must be the same.
	counted uint64
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
		edge := prefix.Bits() < prefix.Addr().BitLen()-1 && (a == prefix.Masked().Addr() || a == last(prefix) && a.Is4())
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
				if p != nil && n.GetNetwork() == "" && p.GetNetwork() == network && wishes(n, address) && serves(p, app.GetNamespace()) &&
					w.obstacle(p, netip.MustParseAddr(address)) == "" {
					return true
				}
			}
		}
	}
	return false
}

func wishes(n *padisv1.NetworkWish, address string) bool {
	return slices.ContainsFunc(n.GetAddresses(), func(s string) bool { return canonical(s) == address })
}

func serves(p *padisv1.Pool, namespace string) bool {
	return len(p.GetNamespaces()) == 0 || slices.Contains(p.GetNamespaces(), namespace)
}

// choosable lists what a pool may choose for a wish without an address.
func (w *world) choosable(p *padisv1.Pool) []string {
	var out []string
	for _, a := range w.gives(p) {
		if w.leases[record.LeaseKey(p.GetNetwork(), a)] == nil && !w.wished(p.GetNetwork(), a) && w.foreign[p.GetNetwork()][a] == "" {
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
	again := newBook(w.cluster, all, maxDense-w.counted)
	var apps []*padisv1.WantedApp
	for _, a := range w.apps {
		apps = append(apps, a)
	}
	again.SetApps(apps)
	for network, addresses := range w.foreign {
		again.SetForeign(network, addresses)
	}
	held := 0
	for _, l := range all {
		if rests(l) {
			held++
		}
	}
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
			if rests(l) {
				t.Fatalf("%v is held, but cools", l)
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
	for _, network := range []string{"lan", "dmz"} {
		for _, a := range universe {
			w.checkState(t, network, a, again)
		}
	}
}

func (w *world) checkState(t *rapid.T, network, address string, again *Book) {
	got, ok := w.book.State(network, address)
	if anew, ok2 := again.State(network, address); anew != got || ok2 != ok {
		t.Fatalf("%s of %s is %v, made anew %v", address, network, got, anew)
	}
	l := w.leases[record.LeaseKey(network, address)]
	contained, given := false, false
	for _, p := range w.cluster.GetPools() {
		if a := netip.MustParseAddr(address); p.GetNetwork() == network && netip.MustParsePrefix(p.GetCidr()).Contains(a) {
			contained, given = true, given || w.obstacle(p, a) == ""
		}
	}
	var want State
	switch {
	case l != nil && !rests(l):
		want = Allocated
	case l != nil:
		want = Cooling
	case w.foreign[network][address] != "":
		want = Foreign
	case w.wished(network, address) || contained && !given:
		want = Reserved
	case contained:
		want = Unallocated
	}
	if got.State != want || got.Lease != l || ok != (want != "") || want == Cooling && got.UntilMs != w.until(l) {
		t.Fatalf("%s of %s is %v, should be %s %v", address, network, got, want, l)
	}
}

// until is when a lease that cools is over.
func (w *world) until(l *padisv1.LeaseRecord) int64 {
	return l.GetReleasedMs() + w.pool(l.GetPool()).GetReuseDelayMs()
}

func (w *world) checkPool(t *rapid.T, p *padisv1.Pool, again *Book) {
	name := p.GetName()
	got, anew := w.book.Utilisation(name), again.Utilisation(name)
	gives := w.gives(p)
	should := Utilisation{Capacity: int64(len(gives)), Free: int64(len(gives))}
	for _, l := range w.leases {
		switch {
		case l.GetPool() != name || l.GetNetwork() != p.GetNetwork():
		case rests(l):
			should.Cooling++
		default:
			should.Allocated++
		}
	}
	for _, a := range gives {
		switch {
		case w.leases[record.LeaseKey(p.GetNetwork(), a)] != nil:
			should.Free--
		case w.foreign[p.GetNetwork()][a] != "":
			should.Foreign++
			should.Free--
		case w.wished(p.GetNetwork(), a):
			should.Aside++
		}
	}
	if got != should || anew != should {
		t.Fatalf("pool %s: %+v; made anew %+v; should be %+v", name, got, anew, should)
	}
	var reserved []string
	for _, r := range w.book.Reserved(name) {
		for a := netip.MustParseAddr(r.From); ; a = a.Next() {
			reserved = append(reserved, a.String())
			if a.String() == r.To {
				break
			}
		}
	}
	prefix := netip.MustParsePrefix(p.GetCidr())
	for a := prefix.Masked().Addr(); prefix.Contains(a); a = a.Next() {
		key := record.LeaseKey(p.GetNetwork(), a.String())
		aside := w.leases[key] == nil && w.foreign[p.GetNetwork()][a.String()] == "" && w.wished(p.GetNetwork(), a.String())
		if is := w.obstacle(p, a) != "" || aside; is {
			if len(reserved) == 0 || reserved[0] != a.String() {
				t.Fatalf("%s of pool %s is reserved, but is not next in %v", a, name, reserved)
			}
			reserved = reserved[1:]
		}
	}
	if len(reserved) > 0 {
		t.Fatalf("%v of pool %s are not reserved", reserved, name)
	}
	want := w.choosable(p)
	for _, b := range []*Book{w.book, again} {
		got := b.pools[name].all()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("pool %s can choose of %v, should be %v", name, got, want)
		}
	}
}

// all lists what can be chosen.
func (p *pool) all() []string {
	var out []string
	seen := map[address]bool{}
	for {
		a, ok := p.free.choose(p.cursor, func(a address) bool { return seen[a] })
		if !ok {
			return out
		}
		seen[a] = true
		out = append(out, a.String())
	}
}

// After any history the Book is as one made anew of the leases that are left, no address is leased twice, and each
// answer is the one that the definitions give.
func TestABookIsWhatItsLeasesMakeIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{cluster: drawCluster(t), apps: map[string]*padisv1.WantedApp{}, leases: map[string]*padisv1.LeaseRecord{},
			foreign: map[string]map[string]string{}, counted: rapid.SampledFrom([]uint64{0, maxDense}).Draw(t, "counted"), now: 1000}
		w.book, w.twin = newBook(w.cluster, nil, w.counted), newBook(w.cluster, nil, w.counted)
		lease := func(t *rapid.T) {
			w.now += rapid.Int64Range(-2, 5).Draw(t, "passes")
			slot := w.slot(t)
			networks := drawWishes(t)
			if app := w.apps[slot.AppUID]; app != nil && rapid.Bool().Draw(t, "asDeclared") {
				networks = app.GetRevisions()[0].GetNetworks()
			}
			w.lease(t, Want{Slot: slot, Namespace: namespaceOf(slot.AppUID), App: nameOf(slot.AppUID), Networks: networks, NowMs: w.now,
				Tenant: rapid.SampledFrom([]string{"acme", "acme", ""}).Draw(t, "tenant")})
		}
		t.Repeat(map[string]func(*rapid.T){
			"":      func(t *rapid.T) { w.check(t) },
			"lease": lease, "lease more": lease, "lease still more": lease,
			"release": func(t *rapid.T) {
				slot := w.slot(t)
				w.twin.Release(slot)
				for _, l := range w.book.Release(slot) {
					delete(w.leases, record.LeaseKey(l.GetNetwork(), l.GetAddress()))
				}
			},
			"free": func(t *rapid.T) {
				slot := w.slot(t)
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
			"end": func(t *rapid.T) {
				w.now += rapid.Int64Range(-2, 5).Draw(t, "passes")
				var leases []*padisv1.LeaseRecord
				for _, l := range w.book.Held(w.slot(t)) {
					if rapid.Bool().Draw(t, "this") {
						leases = append(leases, l)
					}
				}
				w.end(t, leases)
			},
			"cool": func(t *rapid.T) {
				w.now += rapid.Int64Range(-2, 10).Draw(t, "passes")
				w.cool(t)
			},
			"wake": func(t *rapid.T) {
				for _, key := range slices.Sorted(maps.Keys(w.leases)) {
					if l := w.leases[key]; rests(l) && rapid.Bool().Draw(t, "this") {
						delete(w.leases, key)
						w.twin.Free(l)
						if !w.book.Free(proto.CloneOf(l)) || w.book.Free(l) {
							t.Fatalf("%v was not woken once", l)
						}
					}
				}
			},
			"foreign": func(t *rapid.T) {
				network := rapid.SampledFrom([]string{"lan", "dmz"}).Draw(t, "network")
				w.foreign[network] = rapid.MapOfN(rapid.SampledFrom(universe), rapid.Just("node-1"), 0, 5).Draw(t, "foreign")
				w.book.SetForeign(network, w.foreign[network])
				w.twin.SetForeign(network, w.foreign[network])
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
				w.apps[uid] = &padisv1.WantedApp{Uid: uid, Namespace: namespaceOf(uid), Name: nameOf(uid), Revisions: []*padisv1.Revision{{Networks: drawWishes(t)}}}
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

// quotas counts, for each quota of the tenant, what others hold of it, what the slot holds and what it asks for.
func (w *world) quotas(want Want, check func(max, others, mine, wanted int64, pool string)) {
	for _, tenant := range w.cluster.GetTenants() {
		for _, q := range tenant.GetAddressQuotas() {
			if tenant.GetName() != want.Tenant {
				continue
			}
			covers := func(pool string) bool { return q.GetPool() == "" || q.GetPool() == pool }
			var others, mine, wanted int64
			for _, l := range w.leases {
				switch {
				case rests(l) || !covers(l.GetPool()):
				case slotOf(l) == want.Slot:
					mine++
				case l.GetNamespace() == want.Namespace || slices.Contains(tenant.GetNamespaces(), l.GetNamespace()):
					others++
				}
			}
			for _, n := range want.Networks {
				if n.GetNetwork() == "" && covers(n.GetPool()) {
					wanted++
				}
			}
			check(q.GetMax(), others, mine, wanted, q.GetPool())
		}
	}
}

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
	w.quotas(want, func(max, others, mine, wanted int64, pool string) {
		fresh := slices.ContainsFunc(got, func(l *padisv1.LeaseRecord) bool {
			return l != nil && (pool == "" || l.GetPool() == pool) && !slices.Contains(before, l)
		})
		if fresh && wanted > mine && others+wanted > max {
			t.Fatalf("quota %d of pool %q: others hold %d, the slot %d, and got %d", max, pool, others, mine, wanted)
		}
	})
	seen := map[string]bool{}
	for i, l := range got {
		n := want.Networks[i]
		if n.GetNetwork() != "" {
			if l != nil {
				t.Fatalf("the host's network got %v", l)
			}
			continue
		}
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
		case isFixed && l.GetAddress() != canonical(fixed):
			t.Fatalf("%s was wished for, but %s leased", fixed, l.GetAddress())
		case !kept && holder != nil && !rests(holder) && slotOf(holder) != want.Slot:
			t.Fatalf("%s is leased to %v already", key, holder)
		case !kept && holder != nil && rests(holder) && !w.had(holder, want):
			t.Fatalf("%s cools, but was given to %s: %v", key, want.Slot, holder)
		case !kept && (holder == nil || rests(holder)) && w.foreign[l.GetNetwork()][l.GetAddress()] != "":
			t.Fatalf("%s was handed out, but is used by somebody", key)
		case !kept && !isFixed && holder == nil && w.couldHaveAgain(p, want, got):
			t.Fatalf("%s was chosen, although another one cools for the slot", key)
		case !kept && w.obstacle(p, a) != "":
			t.Fatalf("%s was handed out: %s", key, w.obstacle(p, a))
		case !kept && !isFixed && w.wished(p.GetNetwork(), l.GetAddress()):
			t.Fatalf("%s was chosen, although somebody names it", key)
		}
		seen[key] = true
	}
	needs := 0
	for _, l := range got {
		if l != nil {
			needs++
			w.leases[record.LeaseKey(l.GetNetwork(), l.GetAddress())] = l
		}
	}
	again, refusal := w.book.Lease(want)
	if refusal != nil || !slices.Equal(again, got) {
		t.Fatalf("asked again: %v, %v; first %v", again, refusal, got)
	}
	// What is held is what was given and what is stale, and no more.
	stale := w.book.Stale(want.Slot, want.Networks)
	if len(stale)+needs != len(w.book.Held(want.Slot)) || slices.ContainsFunc(stale, func(l *padisv1.LeaseRecord) bool { return slices.Contains(got, l) }) {
		t.Fatalf("held %v, given %v, stale %v", w.book.Held(want.Slot), got, stale)
	}
}

// had tells whether a lease that cools was the slot's, by its name.
func (w *world) had(l *padisv1.LeaseRecord, want Want) bool {
	return l.GetNamespace() == want.Namespace && l.GetApp() == want.App && l.GetSlot() == want.Slot.Index
}

// couldHaveAgain tells whether an address of the pool cools for the slot that it did not get and nothing speaks against.
func (w *world) couldHaveAgain(p *padisv1.Pool, want Want, got []*padisv1.LeaseRecord) bool {
	for _, l := range w.leases {
		if rests(l) && w.had(l, want) && l.GetPool() == p.GetName() && l.GetNetwork() == p.GetNetwork() &&
			w.obstacle(p, netip.MustParseAddr(l.GetAddress())) == "" && !w.wished(l.GetNetwork(), l.GetAddress()) &&
			w.foreign[l.GetNetwork()][l.GetAddress()] == "" &&
			!slices.ContainsFunc(got, func(g *padisv1.LeaseRecord) bool { return g.GetAddress() == l.GetAddress() }) {
			return true
		}
	}
	return false
}

// checkRefusal tells whether some wish justifies the refusal.
func (w *world) checkRefusal(t *rapid.T, want Want, r *Refusal, before []*padisv1.LeaseRecord) {
	if r.Message == "" {
		t.Fatal("a refusal without a message")
	}
	if r.Reason == padisv1.ReasonAddressQuotaExceeded {
		justified := false
		w.quotas(want, func(max, others, mine, wanted int64, _ string) {
			justified = justified || wanted > mine && others+wanted > max
		})
		if !justified {
			t.Fatalf("%s: %s, but no quota says so", r.Reason, r.Message)
		}
		return
	}
	asked := map[string]int{}
	for _, n := range want.Networks {
		p := w.pool(n.GetPool())
		network := slices.ContainsFunc(w.cluster.GetNetworks(), func(x *padisv1.Network) bool { return x.GetName() == p.GetNetwork() })
		fixed, isFixed := fixedAddress(n, want.Slot.Index)
		fixed = canonical(fixed)
		key := record.LeaseKey(p.GetNetwork(), fixed)
		justified := false
		if n.GetNetwork() != "" {
			if justified = n.GetNetwork() != "own"; justified && r.Reason == padisv1.ReasonNetworkNotFound {
				return
			}
			continue
		}
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
			switch {
			case !isFixed:
			case asked[key] > 1:
				justified = true
			case holder != nil && !rests(holder):
				justified = slotOf(holder) != want.Slot
			default:
				justified = w.foreign[p.GetNetwork()][fixed] != "" || holder != nil && !w.had(holder, want)
			}
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
