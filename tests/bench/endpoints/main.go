// Command endpoints measures how long a change of a real server takes to all directors: from the moment at which its instance is
// shown ready, or about to end, until every director has it in its table in force. Edge: talks to a cluster of its own.
//
// The last lines are the figures, one each: `figure: NAME VALUE UNIT`.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"time"

	"k8s.io/client-go/rest"

	"padis.io/padis/api/runtime"
	"padis.io/padis/tests/harness"
)

const (
	asn     = 64512
	subnet  = "10.48.0.0/24"
	changed = "web-3"
	// Each look costs the control plane something, too.
	pause = time.Millisecond
)

func main() {
	changes := flag.Int("changes", 100, "number of times a real server comes and goes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := measure(ctx, *changes); err != nil {
		fmt.Fprintln(os.Stderr, "bench-endpoints:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, changes int) error {
	dir, err := os.MkdirTemp("", "padis-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c, err := harness.Start(ctx, harness.Options{Dir: dir, Hosts: 3, Out: os.Stderr})
	if err != nil {
		return err
	}
	defer c.Stop()
	e := &eye{c: c}
	if e.http, err = rest.HTTPClientFor(c.Config()); err != nil {
		return err
	}
	router, err := c.StartVIPRouter(ctx, dir, netip.MustParsePrefix(subnet), asn)
	if err != nil {
		return err
	}
	defer router.Stop()
	if _, err := c.Padis(ctx, "apply", "-f", "examples/web-shop.yaml", "-f", "examples/balanced/web-shop.yaml"); err != nil {
		return err
	}
	if err := c.Scale(ctx, "shop", "web", 3); err != nil {
		return err
	}
	if _, err := c.Padis(ctx, "wait", "--for=condition=Redundant", "lb/web", "-n", "shop", "--timeout=60s"); err != nil {
		return err
	}
	var in, out []time.Duration
	for range changes {
		for _, step := range []struct {
			replicas int
			times    *[]time.Duration
		}{{4, &in}, {3, &out}} {
			if err := c.Scale(ctx, "shop", "web", step.replicas); err != nil {
				return err
			}
			took, err := e.follow(ctx, step.replicas == 4)
			if err != nil {
				return err
			}
			*step.times = append(*step.times, took)
			if _, err := c.WaitReady(ctx, "shop", "web", step.replicas); err != nil {
				return err
			}
		}
	}
	for _, f := range []struct {
		name  string
		times []time.Duration
	}{{"endpoint_in", in}, {"endpoint_out", out}, {"endpoint_change", slices.Concat(in, out)}} {
		slices.Sort(f.times)
		fmt.Printf("figure: %s_p50_ms %.1f ms\n", f.name, ms(f.times[len(f.times)/2]))
		fmt.Printf("figure: %s_p99_ms %.1f ms\n", f.name, ms(f.times[len(f.times)*99/100]))
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

type eye struct {
	c    *harness.Cluster
	http *http.Client
}

// follow waits until the instance is ready (or told to end), and then until all directors have that in force.
func (e *eye) follow(ctx context.Context, comes bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var began time.Time
	for ctx.Err() == nil {
		if began.IsZero() {
			var i runtime.Instance
			found, err := e.get(ctx, "instances/"+changed, &i)
			if err != nil {
				return 0, err
			}
			if comes == (found && i.Status.Ready) {
				began = time.Now()
			}
		}
		if !began.IsZero() {
			var b runtime.BalanceObject
			if _, err := e.get(ctx, "balances/web", &b); err != nil {
				return 0, err
			}
			if e.everywhere(&b.Status, comes) {
				return time.Since(began), nil
			}
		}
		time.Sleep(pause)
	}
	return 0, fmt.Errorf("directors were not told: %w", ctx.Err())
}

// everywhere tells whether the server serves, or does not any more, by what all directors have.
func (*eye) everywhere(b *runtime.Balance, comes bool) bool {
	at := slices.IndexFunc(b.Servers, func(s runtime.BalanceServer) bool { return s.Instance == changed })
	serves := at >= 0 && b.Servers[at].State == "serving"
	return serves == comes && !slices.ContainsFunc(b.Directors, func(d runtime.BalanceDirector) bool { return d.Number != b.Number })
}

// get reads an object of the namespace shop; it tells whether there is one.
func (e *eye) get(ctx context.Context, path string, into any) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.c.Config().Host+"/apis/runtime.padis.io/v1alpha1/namespaces/shop/"+path, nil)
	if err != nil {
		return false, err
	}
	res, err := e.http.Do(req)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusNotFound:
		return false, nil
	case http.StatusOK:
		return true, json.NewDecoder(res.Body).Decode(into)
	}
	return false, fmt.Errorf("%s: %s", path, res.Status)
}
