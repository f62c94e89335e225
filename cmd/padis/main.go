// Command padis is the control plane and the command line of Padis. Edge: talks to the terminal and the API.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], standardStreams())) }
