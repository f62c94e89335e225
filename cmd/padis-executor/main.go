// Command padis-executor runs the instances of Padis on one host. A Mesos agent starts it. Edge: talks to everything it
// wires together.
package main

import (
	"fmt"
	"os"
	"runtime"

	"padis.io/padis/executor/director/wire"
	"padis.io/padis/executor/relay"
	"padis.io/padis/executor/runtime/process"
	"padis.io/padis/executor/runtime/reaper"
	"padis.io/padis/executor/speaker"
)

// init keeps the main thread for the main goroutine: other threads enter namespaces, and /proc/self shows the main one.
func init() { runtime.LockOSThread() }

func main() {
	verb, args := "run", os.Args[1:]
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		verb, args = args[0], args[1:]
	}
	switch verb {
	case process.InitVerb: // first: fifty of these start at a time
		os.Exit(process.Init())
	case reaper.Verb: // in a container
		os.Exit(reaper.Main(args))
	case wire.Verb: // a director of a LoadBalancer, as an instance
		os.Exit(direct())
	case relay.Verb: // relays for an executor
		os.Exit(relayVerb())
	case speaker.Verb: // announces for an executor
		os.Exit(speak())
	case "network":
		os.Exit(networkVerb(args, os.Stdout, os.Stderr))
	case "run":
		os.Exit(run(args))
	case "version":
		fmt.Println("padis-executor", versionText())
	case "help":
		fmt.Print(usageText)
	default:
		fmt.Fprintf(os.Stderr, "padis-executor: there is no verb %q\n\n%s", verb, usageText)
		os.Exit(exitUsage)
	}
}
