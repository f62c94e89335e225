package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"padis.io/padis/mesos/local/hosts"
)

const onExample = `  # The interfaces of an embedded host
  padis on host-1 -- ip addr

  # Ask an instance from a machine outside
  padis on client -- curl -s http://10.44.0.2:8080/

  # A shell where the virtual switch is
  padis on switch`

func newOnCommand() *cobra.Command {
	dataDir := defaultDataDir(os.Getenv, os.Geteuid())
	cmd := &cobra.Command{
		Use:     "on HOST [--] [COMMAND [ARGUMENT...]]",
		Short:   "Run a command on an embedded host of `padis up`",
		Long:    "Run a command, or a shell, on the network stack of an embedded host, of \"client\" (a machine outside) or of \"switch\" (the virtual switch and its gateways).\n\n" + exitHelp,
		Example: onExample,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which host? `padis on host-1 -- ip addr`")
			}
			name, command := args[0], args[1:]
			if len(command) > 0 && command[0] == "--" {
				command = command[1:]
			}
			if len(command) == 0 {
				command = []string{"sh"}
			}
			argv, err := enterCommand(dataDir, name, command)
			if err != nil {
				return statusError{err, exitCannotRun}
			}
			// nsenter takes this process's place: signals, terminal and exit status are the command's.
			return statusError{fmt.Errorf("%s: %w", argv[0], syscall.Exec(argv[0], argv, os.Environ())), exitCannotRun}
		},
	}
	// What follows HOST belongs to the command.
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVar(&dataDir, "data-dir", dataDir, "Data directory of the `padis up` that is meant.")
	return cmd
}

// enterCommand is the nsenter command that runs the given one where entry name is.
func enterCommand(dataDir, name string, command []string) ([]string, error) {
	entries, err := hosts.ReadRegistry(dataDir)
	if errors.Is(err, hosts.ErrNotRunning) {
		return nil, fmt.Errorf("no `padis up` runs on %s; name another directory with --data-dir", dataDir)
	}
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(entries, func(e hosts.Entry) bool { return e.Name == name && e.Kind != hosts.KindProcess })
	if at < 0 {
		var names []string
		for _, e := range entries {
			if e.Kind != hosts.KindProcess {
				names = append(names, e.Name)
			}
		}
		return nil, fmt.Errorf("no host %q runs now; there are: %s", name, strings.Join(names, " "))
	}
	program, err := exec.LookPath("nsenter")
	if err != nil {
		return nil, fmt.Errorf("install util-linux: %w", err)
	}
	shares, err := hosts.SharesUserNamespace(entries[at].Pid)
	if err != nil {
		return nil, err
	}
	workDir, err := os.Getwd()
	if err != nil {
		workDir = "/"
	}
	return nsenter(program, entries[at], shares, os.Geteuid() == 0, workDir, command), nil
}

// nsenter builds the command line. A foreign user namespace is entered first; whoever made it may keep his credentials,
// which are root's inside, and root takes those of the user who made it.
func nsenter(program string, e hosts.Entry, sharesUser, root bool, workDir string, command []string) []string {
	argv := []string{program, fmt.Sprintf("--target=%d", e.Pid), "--mount", "--pid", "--wdns=" + workDir}
	if e.Network != "" {
		argv = append(argv, "--net="+e.Network)
	} else {
		argv = append(argv, "--net")
	}
	if e.Kind == hosts.KindHost {
		argv = append(argv, "--uts", "--ipc")
	}
	if !sharesUser {
		argv = append(argv, "--user")
		if !root {
			argv = append(argv, "--preserve-credentials")
		}
	}
	return append(append(argv, "--"), command...)
}
