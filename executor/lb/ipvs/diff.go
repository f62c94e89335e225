package ipvs

import (
	"fmt"
	"slices"
)

// verb is what is done to a service or a real server.
type verb uint8

const (
	addService verb = iota
	editService
	deleteService
	addDest
	editDest
	deleteDest
)

// op is one change of the kernel's tables.
type op struct {
	verb
	service service // without its dests
	dest    dest
}

// String is the command of ipvsadm that does the same.
func (o op) String() string {
	switch o.verb {
	case deleteService:
		return fmt.Sprintf("ipvsadm -D %s", o.service.key)
	case deleteDest:
		return fmt.Sprintf("ipvsadm -d %s -r %s", o.service.key, o.dest.at)
	case addService, editService:
		return fmt.Sprintf("ipvsadm %s %s", map[verb]string{addService: "-A", editService: "-E"}[o.verb], o.service)
	}
	return fmt.Sprintf("ipvsadm %s %s %s", map[verb]string{addDest: "-a", editDest: "-e"}[o.verb], o.service.key, o.dest)
}

// diff is what makes want of have, both sorted by key: first what is added and changed, then the services that go, which are to
// be deleted when nothing comes to them any more.
func diff(have, want []service) (changes, deletions []op) {
	old := make(map[key]service, len(have))
	for _, s := range have {
		old[s.key] = s
	}
	for _, s := range want {
		before, there := old[s.key]
		delete(old, s.key)
		bare := s
		bare.dests = nil
		switch {
		case !there:
			changes = append(changes, op{verb: addService, service: bare})
		case before.scheduler != s.scheduler || before.flags != s.flags:
			changes = append(changes, op{verb: editService, service: bare})
		}
		if s.scheduler == "mh" {
			changes = append(changes, ordered(bare, before, s.dests)...)
		} else {
			changes = append(changes, unordered(bare, before.dests, s.dests)...)
		}
	}
	for _, s := range have {
		if _, goes := old[s.key]; goes {
			s.dests = nil
			deletions = append(deletions, op{verb: deleteService, service: s})
		}
	}
	return changes, deletions
}

func unordered(s service, have, want []dest) (out []op) {
	for _, d := range slices.Backward(want) {
		i := slices.IndexFunc(have, d.is)
		switch {
		case i < 0:
			out = append(out, op{verb: addDest, service: s, dest: d})
		case have[i] != d:
			out = append(out, op{verb: editDest, service: s, dest: d})
		}
	}
	return append(out, gone(s, have, want)...)
}

func (d dest) is(o dest) bool { return d.at == o.at }

func gone(s service, have, want []dest) (out []op) {
	for _, d := range have {
		if !slices.ContainsFunc(want, d.is) {
			out = append(out, op{verb: deleteDest, service: s, dest: d})
		}
	}
	return out
}

// ordered is for mh, whose table depends on the order in which servers were added, and on the last weight other than 0 that a
// server had. So that a director's table does not depend on its history, a server that comes between others is added, and those
// behind it are deleted and added again at once; and so is one whose weight becomes 0, which forgets the last. A connection to
// one that is deleted and added is kept by the kernel meanwhile.
func ordered(s service, before service, want []dest) (out []op) {
	again := func(d dest, there bool) {
		if there {
			out = append(out, op{verb: deleteDest, service: s, dest: d})
		}
		out = append(out, op{verb: addDest, service: s, dest: d})
	}
	have := make(map[dest]dest, len(before.dests)) // by address only
	for _, d := range before.dests {
		have[dest{at: d.at}] = d
	}
	// Those whose weights other methods have set cannot be kept.
	known := before.scheduler == s.scheduler
	kept := 0
	if known {
		kept = inPlace(before.dests, want)
	}
	for _, d := range slices.Backward(want) {
		h, there := have[dest{at: d.at}]
		switch {
		case d.weight == 0 && known && there && h.weight == 0, d.weight > 0 && kept > 0:
			if d.weight > 0 {
				kept--
			}
			if h != d {
				out = append(out, op{verb: editDest, service: s, dest: d})
			}
		default:
			again(d, there)
		}
	}
	return append(out, gone(s, before.dests, want)...)
}

// inPlace is how many of those that serve, from the one that was added first, are in their place already.
func inPlace(have, want []dest) int {
	var order []dest
	for _, d := range slices.Backward(have) {
		i := slices.IndexFunc(want, d.is)
		if d.weight > 0 && i >= 0 && want[i].weight > 0 {
			order = append(order, d)
		}
	}
	n := 0
	for _, d := range slices.Backward(want) {
		if d.weight == 0 {
			continue
		}
		if n == len(order) || !order[n].is(d) {
			break
		}
		n++
	}
	return n
}
