// Command shop is the program that the examples run: an HTTP server that says which instance it is, with what address, on
// which host. Edge: talks HTTP to whoever asks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"
)

// drain is how long requests under way may take once the program was asked to end.
const drain = 3 * time.Second

func main() {
	listen := flag.String("listen", ":8080", "address to listen on")
	name := flag.String("name", "web shop", "what to call the place")
	flag.Parse()
	if err := run(*listen, *name); err != nil {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

func run(listen, name string) error {
	// Fifty of these share a host in the examples, each with 16 MiB.
	debug.SetMemoryLimit(8 << 20)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	server := &http.Server{Addr: listen, Handler: pages(name), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	fmt.Printf("%s: %s is open on %s\n", os.Getenv("PADIS_INSTANCE"), name, listen)
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	fmt.Printf("%s: closing\n", os.Getenv("PADIS_INSTANCE"))
	late, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if err := server.Shutdown(late); err != nil {
		return fmt.Errorf("requests were cut off: %w", err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// pages serves / for people and /healthz for health checks.
func pages(name string) http.Handler {
	var visits atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%s: %s at %s on %s, visitor %d\n", name, os.Getenv("PADIS_INSTANCE"), os.Getenv("PADIS_ADDRESS"), os.Getenv("PADIS_HOST"), visits.Add(1))
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "open") })
	return mux
}
