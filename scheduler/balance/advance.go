package balance

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/lb"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// advance decides the next number, if anything is not as it shall be.
func (w *work) advance() {
	vips := w.admitted()
	services := services(w.Wanted, vips)
	n := w.change()
	n.Services, n.Order = services, order(w.Wanted)
	list, real := w.servers(slices.Sorted(slices.Values(vips)))
	if len(services) == 0 {
		list, real = nil, nil
	}
	n.Servers = real
	if w.same(n, list) {
		if !equal(w.rec.GetServers(), real) { // Since when one is leaving is nobody else's affair.
			w.rec = n
		}
		return
	}
	tables, err := w.follow(services, list)
	if err != nil {
		w.problem = fmt.Sprintf("the table cannot be changed: %v", err)
		return
	}
	n.Number, n.Tcp, n.Udp = w.rec.GetNumber()+1, nil, nil
	if tables.TCP != nil {
		n.Tcp = tables.TCP.Encode()
	}
	if tables.UDP != nil {
		n.Udp = tables.UDP.Encode()
	}
	n.Vips = slices.Compact(slices.Sorted(slices.Values(slices.Concat(w.rec.GetVips(), vipsOf(services)))))
	n.Former = w.former(real)
	if size := proto.Size(n); size > MaxSize {
		w.problem = fmt.Sprintf("LoadBalancer %s/%s needs messages of %d bytes, and they may have %d: it stays as it was; give it a tableSize smaller than %d, or fewer vips and listeners",
			w.Wanted.GetNamespace(), w.Wanted.GetName(), size, MaxSize, w.Wanted.GetTableSize())
		return
	}
	w.rec, w.tables = n, tables
}

// admitted are the VIPs to serve, in the order of the declaration. One that comes in beside others waits until all who serve
// have it on their loopback, or should have it for long; otherwise servers would be out of rotation for the others, too.
func (w *work) admitted() []string {
	if w.Wanted.GetForgotten() {
		return nil
	}
	before := vipsOf(w.rec.GetServices())
	served := func(v string) bool { return v != "" && slices.Contains(before, v) }
	alone := !slices.ContainsFunc(w.VIPs, served)
	var out []string
	for _, v := range w.VIPs {
		if v == "" || slices.Contains(out, v) {
			continue
		}
		if alone || served(v) || w.shared(v) {
			out = append(out, v)
		}
	}
	return out
}

// shared tells whether all servers that serve have a VIP, or are not waited for.
func (w *work) shared(vip string) bool {
	for i := range w.Candidates {
		c := &w.Candidates[i]
		was, ok := w.tables.server(c.ID)
		if !ok || was.State != lb.Serving || c.Backend < 0 || c.Phase != padisv1.Phase_RUNNING || !c.Ready {
			continue
		}
		if _, has := slices.BinarySearch(c.VIPs, vip); !has && !w.overdue(c) && !w.silent(c.Agent) {
			return false
		}
	}
	return true
}

// same tells whether a record with these servers says what the last one says.
func (w *work) same(n *padisv1.BalanceRecord, list []lb.Server) bool {
	return w.rec.GetNumber() > 0 && equal(w.rec.GetServices(), n.GetServices()) && proto.Equal(w.rec.GetOrder(), n.GetOrder()) &&
		slices.EqualFunc(w.rec.GetServers(), n.GetServers(), sameServer) && slices.Equal(w.tables.servers(), list)
}

func equal[M proto.Message](a, b []M) bool {
	return slices.EqualFunc(a, b, func(x, y M) bool { return proto.Equal(x, y) })
}

func sameServer(a, b *padisv1.RealServer) bool {
	return a.GetId() == b.GetId() && a.GetAgentId() == b.GetAgentId() && a.GetAddress() == b.GetAddress() && a.GetNamespace() == b.GetNamespace() && a.GetInstance() == b.GetInstance()
}

// follow makes the tables after those of the record.
func (w *work) follow(services []*padisv1.BalanceService, list []lb.Server) (t Tables, err error) {
	for _, p := range []struct {
		word string
		prev *lb.Generation
		next **lb.Generation
	}{{"tcp", w.tables.TCP, &t.TCP}, {"udp", w.tables.UDP, &t.UDP}} {
		i := slices.IndexFunc(services, func(s *padisv1.BalanceService) bool { return s.GetProtocol() == p.word })
		if i < 0 {
			continue
		}
		s, err := service(services[i], w.Wanted.GetScheduler())
		s.TableSize, s.Seed = w.Wanted.GetTableSize(), w.Wanted.GetSeed()
		if err != nil {
			return Tables{}, err
		}
		if *p.next, err = lb.Next(p.prev, s, list); err != nil {
			return Tables{}, err
		}
	}
	return t, nil
}

// maxFormer bounds those that are remembered while a director does not answer.
const maxFormer = 1000

// former are the servers that leave the tables, besides those that have left before. Also of those that have ended: what was
// given up together with the director that sends to it may come back together with it.
func (w *work) former(now []*padisv1.RealServer) []*padisv1.RealServer {
	var out []*padisv1.RealServer
	for _, s := range slices.Concat(w.rec.GetServers(), w.rec.GetFormer()) {
		same := func(o *padisv1.RealServer) bool { return o.GetId() == s.GetId() }
		if len(out) < maxFormer && !slices.ContainsFunc(now, same) && !slices.ContainsFunc(out, same) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *padisv1.RealServer) int { return cmp.Compare(a.GetId(), b.GetId()) })
	return out
}

// services are each VIP with each listener.
func services(w *padisv1.WantedBalancer, vips []string) []*padisv1.BalanceService {
	var out []*padisv1.BalanceService
	for _, v := range vips {
		vip, err := netip.ParseAddr(v)
		if err != nil {
			continue
		}
		for _, l := range w.GetListeners() {
			s := &padisv1.BalanceService{Vip: v, Protocol: l.GetProtocol(), FirstPort: l.GetFirstPort(), LastPort: max(l.GetFirstPort(), l.GetLastPort())}
			for _, text := range l.GetSourceRanges() {
				if p, err := netip.ParsePrefix(text); err == nil && p.Addr().Is4() == vip.Is4() {
					s.SourceRanges = append(s.SourceRanges, p.Masked().String())
				}
			}
			s.Nobody = len(l.GetSourceRanges()) > 0 && len(s.SourceRanges) == 0
			out = append(out, s)
		}
	}
	return out
}

// order is what directors need beside tables.
func order(w *padisv1.WantedBalancer) *padisv1.DirectorOrder {
	return &padisv1.DirectorOrder{Dataplane: w.GetDataplane(), Scheduler: w.GetScheduler(), MinServers: max(1, w.GetMinServers()), Checks: w.GetChecks(),
		Announcement: w.GetAnnouncement(), MaxConnections: w.GetMaxConnections()}
}

// service is a BalanceService as tables know it, but for what is the table's own.
func service(b *padisv1.BalanceService, scheduler string) (lb.Service, error) {
	vip, err := netip.ParseAddr(b.GetVip())
	if err != nil {
		return lb.Service{}, fmt.Errorf("vip %q: %w", b.GetVip(), err)
	}
	if b.GetFirstPort() < 1 || b.GetLastPort() > 65535 {
		return lb.Service{}, fmt.Errorf("ports %d-%d of %s: give ports from 1 to 65535", b.GetFirstPort(), b.GetLastPort(), b.GetVip())
	}
	s := lb.Service{VIP: vip, Protocol: lb.TCP, Ports: lb.Ports{First: uint16(b.GetFirstPort()), Last: uint16(b.GetLastPort())}}
	if b.GetProtocol() == "udp" {
		s.Protocol = lb.UDP
	}
	if scheduler == "sh" {
		s.Scheduler = lb.SourceHash
	}
	for _, text := range b.GetSourceRanges() {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return lb.Service{}, fmt.Errorf("source range %q of %s: %w", text, b.GetVip(), err)
		}
		s.Allow = append(s.Allow, p)
	}
	return s, nil
}

// vipsOf are the VIPs of services, sorted.
func vipsOf(services []*padisv1.BalanceService) []string {
	var out []string
	for _, s := range services {
		if len(out) == 0 || out[len(out)-1] != s.GetVip() {
			out = append(out, s.GetVip())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
