// Command kubectl is stock kubectl: its own packages, nothing of ours. Tests and the demo use it where the machine has
// no other, so that "stock kubectl works" is proved on every machine. Edge: talks to the API.
package main

import (
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
