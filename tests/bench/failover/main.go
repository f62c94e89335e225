// Command failover measures what a stream of datagrams, over many flows through a BIRD router to 8 directors, loses when a director
// is killed, is drained, or dies in silence with its links up; the last with BFD, and for comparison with a hold time of 3 s
// alone. And how long a director takes from its start until 1,000 VIPs are routed. It runs in namespaces of its own, as root.
// Edge: talks to namespaces, routers and directors.
//
// The last lines are the figures, one each: `figure: NAME VALUE UNIT`.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"padis.io/padis/executor/lb/bgp/routers"
	"padis.io/padis/tests/lbchurn"
)

func main() { os.Exit(routers.Isolated(run)) }

// options of a run.
type options struct {
	kills, drains, deaths, vips int
	rate, flows                 int
	executor                    string
}

type figure struct {
	name, unit string
	value      float64
}

func run() int {
	var o options
	flag.IntVar(&o.kills, "kills", 200, "number of directors killed")
	flag.IntVar(&o.drains, "drains", 20, "number of directors drained")
	flag.IntVar(&o.deaths, "deaths", 10, "number of silent deaths with BFD; a third of it without")
	flag.IntVar(&o.vips, "vips", 1000, "number of VIPs on one director")
	flag.IntVar(&o.rate, "rate", 4000, "datagrams a second")
	flag.IntVar(&o.flows, "flows", 256, "number of flows that they belong to")
	flag.StringVar(&o.executor, "executor", "", "binary of the directors; bin/padis-executor unless it is given")
	flag.Parse()
	if err := measure(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-failover:", err)
		return 1
	}
	return 0
}

func measure(o options) (err error) {
	if o.executor == "" {
		if o.executor, err = lbchurn.Executor(); err != nil {
			return err
		}
	}
	if err := lbchurn.First(); err != nil {
		return err
	}
	var figures []figure
	for _, part := range []func(testing.TB, options) ([]figure, error){exits, silence, start} {
		err := lbchurn.Program(func(t testing.TB) error {
			f, err := part(t, o)
			figures = append(figures, f...)
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, f := range figures {
		fmt.Printf("figure: %s %.2f %s\n", f.name, f.value, f.unit)
	}
	return nil
}

func farm(t testing.TB, o options, change func(*lbchurn.Options)) *lbchurn.Farm {
	l := lbchurn.Options{Router: "bird", Directors: 8, Hosts: 2, Places: 5, Servers: 10, Executor: o.executor,
		Log: func(format string, args ...any) { fmt.Printf(format+"\n", args...) }}
	change(&l)
	return lbchurn.New(t, l)
}

// settle is how long a stream is watched after an event; what is lost later is not the event's.
const settle = 400 * time.Millisecond

// exits kills directors one after the other, then drains them.
func exits(t testing.TB, o options) ([]figure, error) {
	f := farm(t, o, func(*lbchurn.Options) {})
	p, err := f.NewProbe(o.flows, o.rate)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	p.Flush()
	var lasts []time.Duration
	lost := 0
	for i := range o.kills {
		d := next(f, i)
		at := time.Now()
		d.Kill()
		last, n := after(p, at, settle)
		lasts, lost = append(lasts, last), lost+n
		d.AwaitEnd()
		if err := d.Start(); err != nil {
			return nil, err
		}
	}
	fmt.Printf("%d kills: last loss after %v (median), %v (p99), %v (worst); %.1f datagrams lost in the mean\n",
		o.kills, quantile(lasts, 0.5), quantile(lasts, 0.99), quantile(lasts, 1), float64(lost)/float64(o.kills))
	figures := []figure{{"kill_last_loss_p50_ms", "ms", ms(quantile(lasts, 0.5))}, {"kill_last_loss_p99_ms", "ms", ms(quantile(lasts, 0.99))},
		{"kill_last_loss_worst_ms", "ms", ms(quantile(lasts, 1))}, {"kills", "kills", float64(o.kills)}}
	lost = 0
	for i := range o.drains {
		d := next(f, i)
		at := time.Now()
		d.Drain()
		d.AwaitEnd()
		ended := time.Since(at)
		_, n := after(p, at, ended+settle)
		if n > 0 {
			fmt.Printf("drain %d, which took %v, lost %d datagrams\n", i, ended, n)
		}
		lost += n
		if err := d.Start(); err != nil {
			return nil, err
		}
	}
	fmt.Printf("%d drains: %d datagrams lost of %d\n", o.drains, lost, p.Sent())
	return append(figures, figure{"drain_lost_packets", "packets", float64(lost)}, figure{"drains", "drains", float64(o.drains)}), nil
}

// next waits until most directors have routes again, and returns the one whose turn it is; it has.
func next(f *lbchurn.Farm, i int) *lbchurn.Director {
	d := f.Directors[i%len(f.Directors)]
	f.Lab.Until("directors are back", func() bool {
		n := 0
		for _, d := range f.Directors {
			if f.Routed(d) {
				n++
			}
		}
		return n >= len(f.Directors)-3 && d.Announces() && f.Routed(d)
	}, d.Output)
	return d
}

// after waits until so long after an event, and returns when what was lost last was sent, counted from the event.
func after(p *lbchurn.Probe, at time.Time, wait time.Duration) (time.Duration, int) {
	time.Sleep(time.Until(at.Add(wait)))
	p.Flush()
	n, _, last := p.Lost(at, at.Add(wait-settle/4))
	if n == 0 {
		return 0, 0
	}
	return last.Sub(at), n
}

// silence cuts directors off, with BFD and without.
func silence(t testing.TB, o options) (figures []figure, err error) {
	for _, c := range []struct {
		bfd    bool
		name   string
		deaths int
		wait   time.Duration
	}{{true, "silent_death_ms", o.deaths, 2 * time.Second}, {false, "silent_death_hold3_ms", (o.deaths + 2) / 3, 8 * time.Second}} {
		err := lbchurn.Program(func(t testing.TB) error {
			f := farm(t, o, func(l *lbchurn.Options) { l.BFD, l.Directors = c.bfd, 4 })
			p, err := f.NewProbe(o.flows, o.rate/4)
			if err != nil {
				return err
			}
			defer p.Stop()
			var lasts []time.Duration
			for i := range c.deaths {
				d := next(f, i)
				if c.bfd {
					f.Lab.Until("BFD is up", func() bool { return f.Router.BFD(d.Address()) == "up" }, d.Output)
				}
				at := time.Now()
				f.Cut(d)
				last, n := after(p, at, c.wait)
				fmt.Printf("silent death, BFD %v: %d datagrams lost, the last one sent after %v\n", c.bfd, n, last)
				lasts = append(lasts, last)
				d.Kill()
				d.AwaitEnd()
				f.Heal(d)
				if err := d.Start(); err != nil {
					return err
				}
			}
			figures = append(figures, figure{c.name, "ms", ms(quantile(lasts, 1))})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return figures, nil
}

// start measures one director with many VIPs.
func start(t testing.TB, o options) ([]figure, error) {
	f := farm(t, o, func(l *lbchurn.Options) { l.Directors, l.VIPs = 1, o.vips })
	var all []time.Duration
	for range 5 {
		d := f.Directors[0]
		f.AwaitVIPs(o.vips)
		d.Kill()
		d.AwaitEnd()
		f.AwaitVIPs(0)
		time.Sleep(3 * time.Second) // the router waits after the end of a session; a new host's router does not
		began := time.Now()
		if err := d.Start(); err != nil {
			return nil, err
		}
		f.AwaitVIPs(o.vips)
		all = append(all, time.Since(began))
	}
	fmt.Printf("%d VIPs: routed %v after the start (five times)\n", o.vips, all)
	return []figure{{"vips_1000_seconds", "s", quantile(all, 1).Seconds()}}, nil
}

func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(all))
	return s[max(0, min(len(s)-1, int(q*float64(len(s))+0.999999)-1))]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
