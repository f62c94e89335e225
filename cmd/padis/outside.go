package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"padis.io/padis/reconcile/gitops/notify/post"
)

// The network that `padis up` makes has no way out, and its control plane has to reach git servers and the receivers of
// notifications. What it connects to there is connected to by the outer process, on the caller's network, and passed on over a
// socket in the data directory: the client sends WAY ADDRESS:PORT and a line feed, the server an empty line or one that says why
// not, then both pass bytes. The way says what may be reached: that is judged where names become addresses, and so by the server.

const (
	outsideTimeout = 30 * time.Second
	maxOutsideLine = 4096
)

const (
	// toServers leads to git servers and their proxies.
	toServers = "servers"
	// toReceivers leads to receivers of notifications.
	toReceivers = "receivers"
)

// ways are what may be reached for others, and how.
type ways map[string]dialer

// waysOut are those of `padis up`. loopback lets notifications be sent to this machine.
func waysOut(loopback bool) ways {
	return ways{toServers: (&net.Dialer{}).DialContext, toReceivers: post.Dialer(loopback).DialContext}
}

// outsidePath is where the outer process of `padis up` listens.
func outsidePath(dataDir string) string { return filepath.Join(dataDir, "run", "outside") }

// dialer connects to addresses.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// listenOutside listens for what is to be reached for others. Only the caller's user may ask.
func listenOutside(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o600)
}

// serveOutside connects those who ask until the listener is closed.
func serveOutside(l net.Listener, by ways) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go connectOutside(conn, by)
	}
}

func connectOutside(conn net.Conn, by ways) {
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(outsideTimeout))
	asks := bufio.NewReaderSize(conn, maxOutsideLine)
	line, err := asks.ReadSlice('\n')
	if err != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithTimeout(context.Background(), outsideTimeout)
	defer cancel()
	other, err := by.dial(ctx, strings.TrimSpace(string(line)))
	if err != nil {
		_, _ = fmt.Fprintf(conn, "%.1000s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	defer other.Close()
	if _, err := io.WriteString(conn, "\n"); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	pass := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from)
		done <- struct{}{}
	}
	go pass(other, asks)
	go pass(conn, other)
	<-done
}

// dial connects to what a client asks for.
func (w ways) dial(ctx context.Context, asked string) (net.Conn, error) {
	way, address, _ := strings.Cut(asked, " ")
	dial := w[way]
	if dial == nil {
		return nil, fmt.Errorf("no way out is called %q: the processes of padis up are not of one version; start it again", way)
	}
	return dial(ctx, "tcp", address)
}

// dialOutside connects by one of the ways of whoever listens at path.
func dialOutside(path, way string) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		said, err := askOutside(conn, way+" "+address)
		switch {
		case !stop():
			return nil, ctx.Err()
		case err == nil && said != "":
			err = errors.New(strings.TrimPrefix(said, "dial "+network+" "))
		}
		if err != nil {
			return nil, errors.Join(&net.OpError{Op: "dial", Net: network, Err: err}, conn.Close())
		}
		return conn, nil
	}
}

// askOutside reads no more than the one line: what follows is not ours.
func askOutside(conn net.Conn, what string) (string, error) {
	if _, err := io.WriteString(conn, what+"\n"); err != nil {
		return "", err
	}
	var said []byte
	for one := make([]byte, 1); len(said) < maxOutsideLine; said = append(said, one[0]) {
		if _, err := io.ReadFull(conn, one); err != nil {
			return "", errors.Join(syscall.ECONNRESET, err)
		}
		if one[0] == '\n' {
			break
		}
	}
	return string(said), nil
}
