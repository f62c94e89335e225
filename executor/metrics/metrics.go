// Package metrics shows Prometheus what an executor does and what its instances use. Edge: talks to HTTP clients.
//
// The text format (version 0.0.4) is written by hand: client_golang would add some 3.5 MB to the resident memory of a
// process that runs on every host, for a page of text.
package metrics

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/proto/padis/stream"
)

// Instance is one that the executor has.
type Instance struct {
	Namespace, App, Name, Tenant, Container string
	// Phase as the executor calls it.
	Phase string
	// PID of its first process on the host; 0 if there is none.
	PID   int
	Ready bool
}

// Counters count since the executor's start.
type Counters struct {
	Version string
	// Pulls of images that were asked for and how many of them failed; PullBytes came over the network.
	Pulls, PullFailures, PullBytes uint64
	// Adoptions of containers that another executor made.
	Adoptions uint64
	// Starts of instances and how many of them failed. StartDuration is from the launch until the program ran.
	Starts, StartFailures uint64
	StartDuration         Histogram
	// Reconnects to the agent, the first connection not included.
	Reconnects uint64
	// Interfaces and Addresses that instances have now.
	Interfaces, Addresses uint64
	// Conflicts that were seen, each once. Renewals of leases that were granted, Expiries of leases that were not renewed.
	Conflicts, Renewals, Expiries uint64
	// AttachDuration is how long it took to configure the network of an instance, or to find that it cannot be.
	AttachDuration Histogram
	// LogBytes were read of instances, LogDroppedBytes of them could not be kept.
	LogBytes, LogDroppedBytes uint64
}

// bounds of Histogram, in seconds: from an interface to an image that has to be pulled.
var bounds = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300}

// Histogram counts durations. The zero value is empty; copies are independent.
type Histogram struct {
	counts [len(bounds) + 1]uint64
	sum    float64
}

// Observe counts one.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for i < len(bounds) && d.Seconds() > bounds[i] {
		i++
	}
	h.counts[i]++
	h.sum += d.Seconds()
}

// source knows the executor. Its methods are called from the goroutines of HTTP requests, one at a time.
type source interface {
	Instances() []Instance
	Counters() Counters
}

// reader knows what the instance with that first process uses.
type reader interface {
	Read(pid int) (stream.Usage, error)
}

// Handler answers every GET with all metrics. Answers are made one after the other: many clients cannot make the
// executor work more than one does.
func Handler(s source, r reader) http.Handler {
	var mu sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "metrics can only be read", http.StatusMethodNotAllowed)
			return
		}
		mu.Lock()
		var b bytes.Buffer
		write(&b, s, r)
		mu.Unlock()
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write(b.Bytes())
	})
}

// listenPause is between attempts to listen.
const listenPause = 2 * time.Second

// Serve serves at an address until ctx is done. An executor must run without its metrics, too, so that what goes wrong
// is only logged; an address that is taken, as it is while one executor replaces another, is tried again.
func Serve(ctx context.Context, address string, h http.Handler, log *zap.Logger) {
	mux := http.NewServeMux()
	mux.Handle("/metrics", h)
	for said := false; ctx.Err() == nil; {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			log.Info("serving metrics", zap.String("address", l.Addr().String()))
			said = false
			err = serve(ctx, l, mux)
		}
		if ctx.Err() != nil {
			return
		}
		if !said {
			log.Warn("metrics are not served; trying again", zap.String("address", address), zap.Error(err))
			said = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(listenPause):
		}
	}
}

func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
