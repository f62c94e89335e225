// Command padis is the control plane and the command line of Padis. Edge: talks to the terminal and the API.
package main

import (
	"os"

	// Change windows are in time zones, which a host without that database does not know.
	_ "time/tzdata"
)

func main() { os.Exit(run(os.Args[1:], standardStreams())) }
