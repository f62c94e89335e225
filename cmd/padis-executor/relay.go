package main

import (
	"context"
	"os"
	"runtime/debug"

	"go.uber.org/zap"

	"padis.io/padis/executor/relay"
)

// relayVerb is the verb relay.Verb: the process that sends on what belongs to real servers of other hosts. Only the executor
// starts it.
func relayVerb() int {
	debug.SetGCPercent(50)
	// Frames go out of standard output; whatever else is printed must not come between them.
	out := os.Stdout
	os.Stdout = os.Stderr
	log, err := zap.NewProduction(zap.WithCaller(false))
	if err != nil {
		return exitFailed
	}
	return relay.Main(os.Stdin, out, log)
}

// startRelay starts what relays, in a process of its own as soon as there is something to relay. What is in force goes on when it
// is closed.
func startRelay(log *zap.Logger) (*relay.Relay, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	r := relay.Start(ctx, "/proc/self/exe", log.Named("relay"))
	return r, func() { cancel(); <-r.Over() }
}
