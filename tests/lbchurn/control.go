package lbchurn

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"padis.io/padis/executor/lb"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// silence is after which nobody waits for a director any more.
const silence = 2 * time.Second

// Changed tells the control loop that servers have other states.
func (f *Farm) Changed() {
	select {
	case f.dirty <- struct{}{}:
	default:
	}
}

// Change changes the state of a real server.
func (f *Farm) Change(s *Server, state lb.State, weight uint32) {
	f.mu.Lock()
	s.state, s.weight = state, weight
	f.mu.Unlock()
	f.Changed()
}

// Settle waits until hosts and directors know what is now.
func (f *Farm) Settle() {
	f.tables.Lock()
	defer f.tables.Unlock()
	for {
		servers := f.list()
		if next, err := lb.Next(f.tcp, service(lb.TCP), servers); err == nil && next == f.tcp && f.given == f.newest {
			return
		}
		f.settled.Wait()
	}
}

// control is the scheduler's part: one number at a time, what changes meanwhile goes into the next.
func (f *Farm) control() {
	defer close(f.quitted)
	for {
		select {
		case <-f.quit:
			return
		case <-f.dirty:
		}
		began := time.Now()
		if err := f.step(); err != nil {
			f.t.Errorf("change of tables: %v", err)
		}
		f.tables.Lock()
		f.slowest = max(f.slowest, time.Since(began))
		f.inForce = map[string]bool{}
		for _, s := range f.tcp.Servers {
			f.inForce[s.ID] = true
		}
		f.settled.Broadcast()
		f.tables.Unlock()
	}
}

// awaitGone waits until nobody has the server in a table.
func (f *Farm) awaitGone(id string) {
	f.tables.Lock()
	defer f.tables.Unlock()
	for f.inForce[id] {
		f.settled.Wait()
	}
}

func service(protocol uint8) lb.Service {
	return lb.Service{VIP: VIP4, Protocol: protocol, Ports: lb.Ports{First: port, Last: port}, TableSize: tableSize, Seed: 0x5eed}
}

func (f *Farm) list() []lb.Server {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]lb.Server, 0, len(f.servers))
	for _, s := range f.servers {
		out = append(out, lb.Server{ID: s.ID, MAC: s.place.mac, Weight: s.weight, State: s.state})
	}
	slices.SortFunc(out, func(a, b lb.Server) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// step brings one number in force: everywhere at the hosts of real servers, then at the directors.
func (f *Farm) step() error {
	servers := f.list()
	tcp, err := lb.Next(f.tcp, service(lb.TCP), servers)
	if err != nil {
		return err
	}
	udp, err := lb.Next(f.udp, service(lb.UDP), servers)
	if err != nil || tcp == f.tcp && udp == f.udp {
		return err
	}
	six := service(lb.TCP)
	six.VIP = VIP6
	tcp6, err := tcp.For(six)
	if err != nil {
		return err
	}
	f.tables.Lock()
	number := int64(1)
	if f.newest != nil {
		number = f.newest.Number + 1
	}
	b := f.balance(number, tcp, udp, servers)
	f.tcp, f.udp, f.newest = tcp, udp, b
	f.tables.Unlock()
	var hosts parallel
	for _, r := range f.relays {
		hosts.do(func() error {
			f.lag()
			return r.Set(tcp, tcp6, udp)
		})
	}
	if err := hosts.wait(); err != nil {
		return err
	}
	f.tables.Lock()
	f.given = b
	f.tables.Unlock()
	var directors parallel
	for _, d := range f.Directors {
		directors.do(func() error {
			f.lag()
			if d.tell(b) && !d.await(number) {
				f.tables.Lock()
				f.silent++
				f.tables.Unlock()
				f.o.Log("director %s does not answer number %d: %v", d.address, number, d.State())
			}
			return nil
		})
	}
	return directors.wait()
}

// lag makes hosts and directors hear of a change one after the other.
func (f *Farm) lag() {
	if f.o.Skew > 0 {
		time.Sleep(rand.N(f.o.Skew))
	}
}

func (f *Farm) balance(number int64, tcp, udp *lb.Generation, servers []lb.Server) *padisv1.Balance {
	b := &padisv1.Balance{Uid: "farm", Number: number, Namespace: "default", Name: "farm", Tcp: tcp.Encode(), Udp: udp.Encode()}
	services := []*padisv1.BalanceService{{Vip: VIP4.String(), Protocol: "tcp"}, {Vip: VIP4.String(), Protocol: "udp"}, {Vip: VIP6.String(), Protocol: "tcp"}}
	for i := range f.o.VIPs {
		services = append(services, &padisv1.BalanceService{Vip: netip.AddrFrom4([4]byte{10, 100, byte(i >> 8), byte(i)}).String(), Protocol: "tcp"})
	}
	for _, s := range services {
		s.FirstPort, s.LastPort = port, port
		b.Services = append(b.Services, s)
	}
	for _, s := range servers {
		b.Servers = append(b.Servers, &padisv1.RealServer{Id: s.ID, Address: f.addressOf(s.ID), Namespace: "default", Instance: s.ID})
	}
	peer := &padisv1.AnnouncementPeer{Name: "router", Router: &padisv1.BgpPeer{Address: "10.0.0.1", Asn: 65000, HoldMs: 3000}, BothFamilies: true}
	if f.o.BFD {
		peer.BfdIntervalMs, peer.BfdMultiplier, peer.Router.HoldMs = 100, 3, 60000
	}
	b.Director = &padisv1.DirectorOrder{Dataplane: "tcx", Scheduler: "maglev", MinServers: 1,
		Announcement: &padisv1.Announcement{Asn: asn, Peers: []*padisv1.AnnouncementPeer{peer}}}
	return b
}

func (f *Farm) addressOf(id string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.servers[id]; s != nil {
		four, _ := own(s.place.number)
		return four.String()
	}
	return ""
}

// parallel runs functions at the same time.
type parallel struct {
	group sync.WaitGroup
	mu    sync.Mutex
	errs  []error
}

func (p *parallel) do(f func() error) {
	p.group.Go(func() {
		if err := f(); err != nil {
			p.mu.Lock()
			p.errs = append(p.errs, err)
			p.mu.Unlock()
		}
	})
}

func (p *parallel) wait() error {
	p.group.Wait()
	return errors.Join(p.errs...)
}
