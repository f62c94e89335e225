package main

import (
	"context"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	streamhttp "k8s.io/streaming/pkg/httpstream"
)

const portForwardExample = `  # Port 8080 of this machine is port 80 of instance web-0
  padis port-forward web-0 8080:80 -n shop

  # Any free port
  padis port-forward instance/web-0 :80 -n shop`

func newPortForwardCommand(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	addresses := []string{"localhost"}
	cmd := &cobra.Command{
		Use:   "port-forward NAME [LOCAL:]PORT...",
		Short: "Reach ports of an instance through ports of this machine",
		Long: "Listen on ports of this machine, and pass each connection on to a port of an instance: to its loopback, or to its own " +
			"address if nobody listens there. It goes on until it is interrupted.\n\n" + exitHelp,
		Example: portForwardExample,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("give the name of an instance and a port")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := instanceTarget(args[0])
			if err != nil {
				return err
			}
			c, err := connectSession(f)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return forwardPorts(ctx, c, streams, name, addresses, args[1:])
		},
	}
	cmd.Flags().StringSliceVar(&addresses, "address", addresses, "Addresses to listen on.")
	return cmd
}

func forwardPorts(ctx context.Context, c session, streams genericiooptions.IOStreams, name string, addresses, ports []string) error {
	target := c.url(name, "portforward", nil)
	transport, upgrader, err := spdy.RoundTripperFor(c.config)
	if err != nil {
		return err
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialerForStreaming(target, c.config)
	if err != nil {
		return err
	}
	dialer := portforward.NewFallbackDialerForStreaming(tunnel, spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, target),
		func(err error) bool { return streamhttp.IsUpgradeFailure(err) || streamhttp.IsHTTPSProxyError(err) })
	forwarder, err := portforward.NewOnAddressesForStreaming(dialer, addresses, ports, ctx.Done(), make(chan struct{}), streams.Out, streams.ErrOut)
	if err != nil {
		return usageError{err}
	}
	return forwarder.ForwardPorts()
}
