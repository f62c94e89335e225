package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
	kubectlexec "k8s.io/kubectl/pkg/cmd/exec"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/util/term"
)

const execExample = `  # A shell in instance web-0
  padis exec -it web-0 -n shop -- sh

  # What it has in /etc
  padis exec instance/web-0 -n shop -- ls /etc

  # Feed a command
  padis exec -i web-0 -n shop -- psql < dump.sql`

type execOptions struct{ stdin, tty bool }

func newExecCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:   "exec [-it] NAME [--] COMMAND [ARGUMENT...]",
		Short: "Run a command in an instance",
		Long: "Run a command beside the program of an instance, as its user and in its working directory. It ends with this " +
			"command. Sessions are written into the audit log of the server, and recorded if the tenant wants it: then the first " +
			"line says so.\n\n" + exitHelp,
		Example: execExample,
		Args: func(_ *cobra.Command, args []string) error {
			if len(execCommand(args)) == 0 {
				return usagef("give the name of an instance and a command")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := instanceTarget(args[0])
			if err != nil {
				return err
			}
			c, err := connectSession(f)
			if err != nil {
				return err
			}
			return runExec(cmd.Context(), c, streams, t, execCommand(args), o)
		},
	}
	// What follows the name is the command's, flags included.
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().BoolVarP(&o.stdin, "stdin", "i", false, "Pass standard input to the command.")
	cmd.Flags().BoolVarP(&o.tty, "tty", "t", false, "Give the command a terminal.")
	return cmd
}

// execCommand is what follows the name, and the -- if there is one.
func execCommand(args []string) []string {
	if len(args) < 2 {
		return nil
	}
	if args[1] == "--" {
		return args[2:]
	}
	return args[1:]
}

// instanceTarget reads NAME or instance/NAME.
func instanceTarget(text string) (string, error) {
	t, err := parseTarget(text, true)
	if err == nil && t.app {
		return "", usagef("%q: name one instance; `padis get instances` lists them", text)
	}
	return t.name, err
}

// session is what is needed to reach into instances.
type session struct {
	config    *rest.Config
	api       reader
	namespace string
}

func connectSession(f cmdutil.Factory) (session, error) {
	config, err := f.ToRESTConfig()
	if err != nil {
		return session{}, err
	}
	api, namespace, err := connect(f)
	return session{config, api, namespace}, err
}

// url is where a subresource of an instance is.
func (s session) url(name, sub string, query url.Values) *url.URL {
	u := s.api.client.Post().AbsPath(runtimePath(s.namespace, "instances", name, sub)).URL()
	u.RawQuery = query.Encode()
	return u
}

func runExec(ctx context.Context, c session, streams genericiooptions.IOStreams, name string, command []string, o execOptions) error {
	t := term.TTY{Out: streams.Out, Raw: o.tty}
	var in io.Reader
	if o.stdin {
		in, t.In = streams.In, streams.In
	}
	if o.tty && o.stdin && !t.IsTerminalIn() {
		fmt.Fprintln(streams.ErrOut, "Standard input is no terminal: the command gets none, either.")
		t.Raw = false
	}
	errOut := streams.ErrOut
	var sizes remotecommand.TerminalSizeQueue
	if t.Raw {
		errOut = nil // a terminal has one output
		if size := t.GetSize(); size != nil {
			sizes = sizeQueue{t.MonitorSize(size)}
		}
	}
	return t.Safe(func() error { return c.exec(ctx, name, command, in, streams.Out, errOut, t.Raw, sizes) })
}

// exec runs a command and returns its exit status as an error.
func (s session) exec(ctx context.Context, name string, command []string, in io.Reader, out, errOut io.Writer, tty bool, sizes remotecommand.TerminalSizeQueue) error {
	query := url.Values{"command": command}
	for key, wanted := range map[string]bool{"stdin": in != nil, "stdout": out != nil, "stderr": errOut != nil, "tty": tty} {
		if wanted {
			query.Set(key, "true")
		}
	}
	err := (&kubectlexec.DefaultRemoteExecutor{}).ExecuteWithContext(ctx, s.url(name, "exec", query), s.config, in, out, errOut, tty, sizes)
	var code exec.CodeExitError
	if errors.As(err, &code) {
		return commandError{code.Code}
	}
	return err
}

// commandError is the exit status of a command that ran: it has said itself what there is to say.
type commandError struct{ status int }

func (e commandError) Error() string {
	return fmt.Sprintf("the command ended with exit status %d", e.status)
}

type sizeQueue struct{ term.TerminalSizeQueue }

// Next implements remotecommand.TerminalSizeQueue.
func (q sizeQueue) Next() *remotecommand.TerminalSize {
	size := q.TerminalSizeQueue.Next()
	if size == nil {
		return nil
	}
	return &remotecommand.TerminalSize{Width: size.Width, Height: size.Height}
}
