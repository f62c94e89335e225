// Command padis-mesos is the embedded Mesos of padis: a master and agents for one machine. Each verb is a process.
package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

var verbs = map[string]func(args []string) error{
	"agent":  agentVerb,
	"host":   runHost,
	"master": masterVerb,
}

func main() {
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		names := strings.Join(slices.Sorted(maps.Keys(verbs)), "|")
		fmt.Fprintf(os.Stderr, "usage: padis-mesos %s [flags]; -h after a verb lists its flags\n", names)
		os.Exit(exitUsage)
	}
	if err := verbs[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "padis-mesos %s: %v\n", os.Args[1], err)
		os.Exit(exitFailed)
	}
}
