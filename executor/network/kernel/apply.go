package kernel

import (
	"errors"
	"fmt"
	"slices"

	"padis.io/padis/executor/network"
)

// errNoGuard and errNoSwitches are what operations meet whose part is not there.
var (
	errNoGuard    = errors.New("this host has no nf_tables to check what instances send; load the module, or set Network.spec.allowSpoofing: true (and no hostGateway)")
	errNoSwitches = errors.New("this host has no Open vSwitch; install openvswitch-switch, or use another driver")
)

// apply carries the operations out, in order, up to the first that fails; what was sent to the kernel together with that
// one may be done, too.
func (s *session) apply(ops []network.Op) error {
	for ops = upFirst(ops); len(ops) > 0; {
		guarded, err := s.guarded(ops)
		if err != nil {
			return err
		}
		if guarded > 0 {
			ops = ops[guarded:]
			continue
		}
		if err := s.one(ops[0]); err != nil {
			return err
		}
		ops = ops[1:]
	}
	return s.flush()
}

// upFirst puts IPv6 addresses that expire behind the operation that brings their link up: while it is down, the kernel
// makes no route to their subnet, and makes up for that only for those that stay.
func upFirst(ops []network.Op) []network.Op {
	late := map[network.SetUp][]network.Op{}
	var out []network.Op
	for at, op := range ops {
		switch op := op.(type) {
		case network.AddAddress:
			up := network.SetUp{Link: op.Link, Inside: op.Inside}
			if op.Valid != 0 && op.Address.Addr().Is6() && slices.Contains(ops[at:], network.Op(up)) {
				late[up] = append(late[up], op)
				continue
			}
			out = append(out, op)
		case network.SetUp:
			out = append(append(out, op), late[op]...)
			delete(late, op)
		default:
			out = append(out, op)
		}
	}
	return out
}

// guarded hands the operations at the beginning that are the guard's to it, as one, and returns how many they are.
func (s *session) guarded(ops []network.Op) (int, error) {
	count := 0
	for count < len(ops) && s.isGuard(ops[count]) {
		count++
	}
	if count == 0 {
		return 0, nil
	}
	if err := s.elsewhere(); err != nil {
		return 0, err
	}
	if s.n.parts.Guard == nil {
		return 0, fmt.Errorf("%s: %w", ops[0], errNoGuard)
	}
	return count, s.n.parts.Guard.Apply(ops[:count])
}

func (s *session) isGuard(op network.Op) bool {
	switch op := op.(type) {
	case network.Guard:
		return op.Port.Driver != network.DriverOVS
	case network.Unguard:
		return !s.switchPorts[op.Link]
	case network.KeepApart:
		return true
	}
	return false
}

// elsewhere ends what is pending, before another part goes on, on the side of the host.
func (s *session) elsewhere() error {
	if err := s.flush(); err != nil {
		return err
	}
	return s.enter(false)
}

func (s *session) one(op network.Op) error {
	var err error
	switch op := op.(type) {
	case network.AddSwitch, network.AddSwitchPort, network.DelSwitchPort, network.Guard, network.Unguard:
		return s.switched(op)
	case network.MoveAddresses:
		if err = s.elsewhere(); err == nil {
			err = s.n.move(op)
		}
	case network.WholeChecksums:
		if err = s.flush(); err == nil {
			if err = s.enter(true); err == nil {
				err = wholeChecksums(op.Link)
			}
		}
	case network.Set:
		if r := setConf(op.Setting); r != nil {
			r.what = op
			return s.queue(op.Inside, r)
		}
		if err = s.flush(); err == nil {
			err = s.writeSetting(op.Inside, op.Setting)
		}
	default:
		var inside bool
		var requests []*request
		if inside, requests, err = s.requests(op); err == nil {
			for _, r := range requests {
				r.what = op
			}
			return s.queue(inside, requests...)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

func (s *session) switched(op network.Op) error {
	if err := s.elsewhere(); err != nil {
		return err
	}
	if s.n.parts.Switches == nil {
		return fmt.Errorf("%s: %w", op, errNoSwitches)
	}
	return s.n.parts.Switches.Apply(op)
}

// requests says an operation in rtnetlink, and on which side.
func (s *session) requests(op network.Op) (inside bool, out []*request, err error) {
	one := func(r *request) (bool, []*request, error) { return inside, []*request{r}, err }
	switch op := op.(type) {
	case network.AddBridge, network.AddVLAN, network.AddVXLAN, network.AddVeth, network.AddMACVLAN:
		r, err := s.newLink(op)
		return false, []*request{r}, err
	case network.AddRelay:
		s.forget(op.Port)
		s.forget(op.Out)
		bridge, err := s.number(false, op.Bridge)
		return false, addRelay(op, bridge), err
	case network.SetPort:
		return one(setPort(op))
	case network.SetMaster:
		var bridge int
		bridge, err = s.number(false, op.Bridge)
		return one(setMaster(op.Link, bridge))
	case network.SetUp:
		inside = op.Inside
		return one(setUp(op.Link))
	case network.SetDown:
		inside = op.Inside
		return one(setDown(op.Link))
	case network.DelLink:
		inside = op.Inside
		s.forget(op.Link)
		return one(delLink(op.Link))
	default:
		return s.numbered(op)
	}
}

// numbered says those operations for which the kernel must have the number of a link.
func (s *session) numbered(op network.Op) (inside bool, out []*request, err error) {
	var name string
	var say func(link int) []*request
	one := func(r *request) []*request { return []*request{r} }
	switch op := op.(type) {
	case network.AddForward:
		name, say = op.Link, func(i int) []*request { return one(addForward(i, op.Forward)) }
	case network.DelForward:
		name, say = op.Link, func(i int) []*request { return delForward(i, op.Forward) }
	case network.AddNeighbour:
		name, say = op.Link, func(i int) []*request { return one(addNeighbour(i, op.Neighbour)) }
	case network.DelNeighbour:
		name, say = op.Link, func(i int) []*request { return one(delNeighbour(i, op.Neighbour)) }
	case network.AddAddress:
		name, inside = op.Link, op.Inside
		say = func(i int) []*request {
			var r *request
			r, err = addAddress(i, op.Address, op.Valid)
			return one(r)
		}
	case network.DelAddress:
		name, inside = op.Link, op.Inside
		say = func(i int) []*request { return one(delAddress(i, op.Address)) }
	case network.AddRoute:
		name, inside = op.Route.Link, op.Inside
		say = func(i int) []*request { return one(addRoute(op.Route, i)) }
	case network.DelRoute:
		name, inside = op.Route.Link, op.Inside
		say = func(i int) []*request { return one(delRoute(op.Route, i)) }
	case network.SetRate:
		name, inside = op.Link, op.Inside
		say = func(i int) []*request { return one(setRate(i, op.Rate)) }
	default:
		return false, nil, fmt.Errorf("unknown operation %T", op)
	}
	link, failed := s.number(inside, name)
	if failed != nil {
		return inside, nil, failed
	}
	out = say(link)
	if err != nil {
		return inside, nil, err
	}
	return inside, out, nil
}

func (s *session) newLink(op network.Op) (*request, error) {
	switch op := op.(type) {
	case network.AddBridge:
		s.forget(op.Name)
		return addBridge(op), nil
	case network.AddVLAN:
		s.forget(op.Name)
		parent, err := s.number(false, op.Parent)
		return addVLAN(op, parent), err
	case network.AddVXLAN:
		s.forget(op.Name)
		parent := 0
		if op.Parent != "" {
			var err error
			if parent, err = s.number(false, op.Parent); err != nil {
				return nil, err
			}
		}
		return addVXLAN(op, parent), nil
	case network.AddVeth:
		i := op.Interface
		s.forget(i.Host)
		s.forget(i.Inside)
		master := 0
		if i.Bridge != "" && i.Driver != network.DriverOVS {
			var err error
			if master, err = s.number(false, i.Bridge); err != nil {
				return nil, err
			}
		}
		return addVeth(i, master, s.ns), nil
	case network.AddMACVLAN:
		s.forget(op.Interface.Inside)
		parent, err := s.number(false, op.Interface.Parent)
		return addMACVLAN(op.Interface, parent, s.ns), err
	}
	return nil, fmt.Errorf("unknown operation %T", op)
}

// forget drops the number of a link that comes or goes.
func (s *session) forget(name string) {
	delete(s.host, name)
	delete(s.inner, name)
}
