package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/reconcile/gitops/render/helm/child"
)

// The exit statuses of padis. This is the only place that decides them.
const (
	exitOK = 0
	// Something went wrong, also on the command line of `padis plan`; or `padis diff` found differences.
	exitError = 1
	// The command line is wrong; or `padis diff` failed; or something would happen by `padis plan`.
	exitUsage = 2
	// `padis on` could not run the command; all other statuses of it are the command's own.
	exitCannotRun = 125
)

const exitHelp = `Exit status:
  0    done
  1    an error; for diff: there are differences
  2    the command line is wrong; for diff: an error; for plan: something would happen
  125  on: the command could not be run; other statuses of it are the command's
For exec, the status of a command that ran is the command's own; of one that a signal ended it is 128 and the signal's number.`

// exitCode ends the program with a status. It goes through kubectl's commands, which do not return their errors, as a
// panic that run recovers.
type exitCode int

// usageError is an error of the command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// statusError is an error with a status of its own.
type statusError struct {
	error
	status int
}

// run runs the command line and returns the exit status.
func run(args []string, streams genericiooptions.IOStreams) (status int) {
	cmdutil.BehaviorOnFatal(func(message string, code int) {
		printError(streams.ErrOut, message)
		if strings.HasSuffix(strings.TrimSpace(message), "for help and examples") {
			code = exitUsage
		}
		panic(exitCode(code))
	})
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exitCode:
			status = int(r)
		default:
			panic(r)
		}
	}()
	if len(args) > 0 && args[0] == child.Verb {
		// A process of its own for what might hurt: it needs no command line.
		return child.Main(args[1:], streams.In, streams.Out, streams.ErrOut)
	}
	root := newRoot(streams)
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil || errors.Is(err, syscall.EPIPE) {
		return exitOK
	}
	return report(streams.ErrOut, cmd, err)
}

// report prints an error that a command returned, and maps it to a status.
func report(w io.Writer, cmd *cobra.Command, err error) int {
	message := err.Error()
	if !strings.HasPrefix(message, "error:") {
		message = "error: " + message
	}
	// What ran in an instance has said itself what there is to say.
	var ran commandError
	if errors.As(err, &ran) && cmd.Name() == "exec" {
		return ran.status
	}
	var without outcome
	if errors.As(err, &without) {
		return int(without)
	}
	var withStatus statusError
	var usage usageError
	switch {
	case errors.As(err, &withStatus):
		printError(w, message)
		return withStatus.status
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "unknown command"):
		printError(w, fmt.Sprintf("%s\nSee '%s -h' for help and examples", message, cmd.CommandPath()))
		if cmd.Name() == "plan" { // 2 says that something would happen.
			return exitError
		}
		return exitUsage
	default:
		printError(w, message)
		return exitError
	}
}

func printError(w io.Writer, message string) {
	if message = strings.TrimRight(message, "\n"); message != "" {
		fmt.Fprintln(w, message)
	}
}

// noArguments and exactArguments are cobra's checks with our class of error.
func noArguments(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}

func exactArguments(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}
