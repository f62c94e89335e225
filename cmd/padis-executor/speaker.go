package main

import (
	"os"
	"runtime/debug"

	"go.uber.org/zap"

	"padis.io/padis/executor/speaker"
)

// speak is the verb speaker.Verb: the process that announces addresses by BGP. Only the executor starts it.
func speak() int {
	debug.SetGCPercent(50)
	// Frames go out of standard output; whatever else is printed must not come between them.
	out := os.Stdout
	os.Stdout = os.Stderr
	log, err := zap.NewProduction(zap.WithCaller(false))
	if err != nil {
		return exitFailed
	}
	return speaker.Main(os.Stdin, out, log)
}
