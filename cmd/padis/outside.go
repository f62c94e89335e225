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
)

// The network that `padis up` makes has no way out, and its control plane has to reach git servers. What it connects to
// there is connected to by the outer process, on the caller's network, and passed on over a socket in the data directory:
// the client sends ADDRESS:PORT and a line feed, the server an empty line or one that says why not, then both pass bytes.

const (
	outsideTimeout = 30 * time.Second
	maxOutsideLine = 4096
)

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
func serveOutside(l net.Listener, dial dialer) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go connectOutside(conn, dial)
	}
}

func connectOutside(conn net.Conn, dial dialer) {
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
	other, err := dial(ctx, "tcp", strings.TrimSpace(string(line)))
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

// dialOutside connects by way of whoever listens at path.
func dialOutside(path string) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		said, err := askOutside(conn, address)
		switch {
		case !stop():
			return nil, ctx.Err()
		case err == nil && said != "":
			err = errors.New(said)
		}
		if err != nil {
			return nil, errors.Join(&net.OpError{Op: "dial", Net: network, Err: err}, conn.Close())
		}
		return conn, nil
	}
}

// askOutside reads no more than the one line: what follows is not ours.
func askOutside(conn net.Conn, address string) (string, error) {
	if _, err := io.WriteString(conn, address+"\n"); err != nil {
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
