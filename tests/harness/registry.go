package harness

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"padis.io/padis/mesos/local/hosts"
	"padis.io/padis/tests/registry"
)

// Registry is a registry of images on the client's side of a cluster's network, as a machine outside would be: hosts
// reach it at Host, over plain HTTP. The embedded one is the same as this process sees it, and takes images.
type Registry struct {
	*registry.Registry
	host     string
	listener net.Listener
	streams  sync.WaitGroup
}

// OpenRegistry starts a registry. Port 0 chooses a free one. The caller calls Stop.
func (c *Cluster) OpenRegistry(o registry.Options, port int) (*Registry, error) {
	if o.TLS {
		return nil, errors.New("the certificate of a registry would be for its address on this side of the network: use it without TLS")
	}
	namespace, err := c.clientNamespace()
	if err != nil {
		return nil, err
	}
	backend, err := registry.Open(o)
	if err != nil {
		return nil, err
	}
	// A socket belongs to the network namespace that it was made in, whoever uses it: what arrives there is passed on.
	r := &Registry{Registry: backend}
	err = inNetwork(namespace, func() error {
		r.listener, err = net.Listen("tcp", net.JoinHostPort(hosts.ClientPrefix().Addr().String(), strconv.Itoa(port)))
		return err
	})
	if err != nil {
		backend.Stop()
		return nil, err
	}
	r.host = r.listener.Addr().String()
	r.streams.Go(r.serve)
	return r, nil
}

// Host is what names of images begin with on the hosts.
func (r *Registry) Host() string { return r.host }

// Ref is what the hosts call an image of that name.
func (r *Registry) Ref(name string) string { return r.host + "/" + name }

// Stop ends the registry; from then on the hosts are refused.
func (r *Registry) Stop() {
	_ = r.listener.Close()
	r.Registry.Stop()
	r.streams.Wait()
}

func (r *Registry) serve() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			// It was closed.
			return
		}
		r.streams.Go(func() { pass(conn, r.Registry.Host()) })
	}
}

// pass connects conn with an address of this network until either side ends.
func pass(conn net.Conn, address string) {
	defer conn.Close()
	other, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer other.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{conn, other}, {other, conn}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
}

// clientNamespace is the path of the client's network namespace.
func (c *Cluster) clientNamespace() (string, error) {
	entries, err := hosts.ReadRegistry(c.Dir)
	if err != nil {
		return "", err
	}
	at := slices.IndexFunc(entries, func(e hosts.Entry) bool { return e.Kind == hosts.KindClient })
	if at < 0 {
		return "", fmt.Errorf("the cluster in %s has no client", c.Dir)
	}
	return entries[at].Network, nil
}

// inNetwork runs f in a network namespace and returns to that of the process.
func inNetwork(path string, f func() error) error {
	there, err := os.Open(path)
	if err != nil {
		return err
	}
	defer there.Close()
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		here, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			result <- err
			return
		}
		defer here.Close()
		if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter %s: %w", path, err)
			return
		}
		err = f()
		if back := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); back != nil {
			// The thread stays locked, and so ends with this goroutine.
			result <- errors.Join(err, back)
			return
		}
		runtime.UnlockOSThread()
		result <- err
	}()
	return <-result
}
