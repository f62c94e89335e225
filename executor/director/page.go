package director

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/director/plan"
	"padis.io/padis/executor/lb"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// page is what HTTP clients see.
type page struct{ view atomic.Pointer[view] }

// view is a director at one time.
type view struct {
	instance, loadBalancer string
	state                  *padisv1.DirectorState
	// Why it is not ready; empty if it is.
	unready string
	plane   lb.Dataplane
	servers []plan.Server
}

func serve(ctx context.Context, address string, p *page, log *zap.Logger) {
	server := &http.Server{Handler: p.handler(), ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	for ctx.Err() == nil {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			err = server.Serve(l)
		}
		if errors.Is(err, http.ErrServerClosed) || ctx.Err() != nil {
			return
		}
		log.Warn("/ready and /metrics are not served; trying again", zap.String("address", address), zap.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

func (p *page) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if why := p.view.Load().unready; why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		var b bytes.Buffer
		p.view.Load().write(&b)
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write(b.Bytes())
	})
	return mux
}

// write is the text format of Prometheus, by hand as in executor/metrics.
func (v *view) write(b *bytes.Buffer) {
	one := func(name, kind, help, labels string, value float64) {
		fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n%s%s %s\n", name, help, name, kind, name, labels, strconv.FormatFloat(value, 'g', -1, 64))
	}
	one("padis_director_info", "gauge", "The director and its dataplane; always 1.",
		labels("instance", v.instance, "loadbalancer", v.loadBalancer, "dataplane", v.state.GetDataplane()), 1)
	one("padis_director_ready", "gauge", "Whether it can take clients' packets.", "", number(v.unready == ""))
	one("padis_director_draining", "gauge", "Whether it was told to end.", "", number(v.state.GetDraining()))
	one("padis_director_order", "gauge", "Number of the order that is in force.", "", float64(v.state.GetNumber()))
	one("padis_director_announced_vips", "gauge", "VIPs that a router was told.", "", float64(len(v.state.GetAnnounced())))
	one("padis_director_failing_servers", "gauge", "Real servers that checks do not reach.", "", float64(len(v.state.GetFailures())))
	if v.plane != nil {
		if n, err := v.plane.Forwarded(); err == nil {
			one("padis_director_forwarded_packets_total", "counter", "Packets sent to real servers since the dataplane was made.", "", float64(n))
		}
	}
	states := map[lb.State]int{}
	for _, s := range v.servers {
		states[s.State]++
	}
	fmt.Fprintf(b, "# HELP padis_director_servers Real servers in the table, by state.\n# TYPE padis_director_servers gauge\n")
	for _, s := range []lb.State{lb.Serving, lb.Draining, lb.Suspect} {
		fmt.Fprintf(b, "padis_director_servers%s %d\n", labels("state", s.String()), states[s])
	}
	for _, m := range [...]struct {
		name, help string
		value      func(*padisv1.DirectorSession) (bool, bool)
	}{
		{"padis_director_session_established", "Whether the BGP session with a router is established.",
			func(s *padisv1.DirectorSession) (bool, bool) { return s.GetEstablished(), true }},
		{"padis_director_bfd_up", "Whether BFD says that a router is alive.",
			func(s *padisv1.DirectorSession) (bool, bool) { return s.GetBfd() == "up", s.GetBfd() != "" }},
	} {
		fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s gauge\n", m.name, m.help, m.name)
		for _, s := range v.state.GetSessions() {
			if is, there := m.value(s); there {
				fmt.Fprintf(b, "%s%s %v\n", m.name, labels("peer", s.GetPeer(), "address", s.GetAddress()), number(is))
			}
		}
	}
}

func number(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

var escape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// labels are pairs of a name and a value.
func labels(pairs ...string) string {
	var s strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		s.WriteByte("{,"[min(i, 1)])
		s.WriteString(pairs[i] + `="` + escape.Replace(strings.ToValidUTF8(pairs[i+1], "\uFFFD")) + `"`)
	}
	return s.String() + "}"
}
