package harness

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"padis.io/padis/mesos/local/hosts"
)

// MaxPaths is how many equal-cost paths a router of StartVIPRouter uses.
const MaxPaths = 8

// StartVIPRouter runs a BIRD in the middle of the cluster's network that takes whoever speaks BGP from the subnet for a director
// of the autonomous system asn. VIPs that several announce it routes over all of them, by address and port of each flow. Directors
// find it at the gateway of their pool, which is an address of the middle; so do the replies of real servers, whose default
// gateway it is. The client of the cluster is behind it, on a link of its own. Its files are in dir.
func (c *Cluster) StartVIPRouter(ctx context.Context, dir string, directors netip.Prefix, asn int) (*Router, error) {
	r := &Router{dir: dir, exited: make(chan struct{})}
	var b strings.Builder
	fmt.Fprintf(&b, "log %q all;\nrouter id %s;\nprotocol device { scan time 2; }\n", filepath.Join(dir, "bird.log"), r.Address())
	fmt.Fprintf(&b, "protocol direct { ipv4; ipv6; }\nprotocol bfd { interface %q { min rx interval 100 ms; min tx interval 100 ms; multiplier 3; }; }\n", hosts.SwitchBridge)
	for _, family := range []string{"ipv4", "ipv6"} {
		fmt.Fprintf(&b, "protocol kernel { merge paths yes limit %d; %s { import none; export where source = RTS_BGP; }; }\n", MaxPaths, family)
	}
	fmt.Fprintf(&b, "protocol bgp directors {\n  local as %d; neighbor range %s as %d; dynamic name \"director\"; direct; bfd on;\n", RouterASN, directors, asn)
	b.WriteString("  error wait time 1, 2; error forget time 5;\n  ipv4 { import all; export none; };\n  ipv6 { import all; export none; };\n}\n")
	inner, err := c.FindOne("up", "--inner")
	if err != nil {
		return nil, err
	}
	// Otherwise all flows between two addresses go to one director.
	err = inNetwork(fmt.Sprintf("/proc/%d/ns/net", inner.Pid), func() error {
		for _, family := range []string{"ipv4", "ipv6"} {
			path := "/proc/sys/net/" + family + "/fib_multipath_hash_policy"
			if err := os.WriteFile(path, []byte("1"), 0); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := r.start(ctx, inner.Pid, b.String()); err != nil {
		return nil, err
	}
	return r, nil
}

// Paths are the next hops to a VIP by which the router forwards, sorted.
func (r *Router) Paths(vip netip.Addr) ([]string, error) {
	family := "-4"
	if vip.Is6() {
		family = "-6"
	}
	out, err := exec.Command("nsenter", "-t", strconv.Itoa(r.pid), "-n", "ip", family, "-o", "route", "show", vip.String()).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("ip route show %v: %w\n%s", vip, err, out)
	}
	var paths []string
	words := strings.Fields(string(out))
	for n, word := range words[:max(len(words)-1, 0)] {
		if word == "via" {
			paths = append(paths, words[n+1])
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// AwaitPaths waits until the router has exactly so many next hops to a VIP, and returns them.
func (r *Router) AwaitPaths(ctx context.Context, vip netip.Addr, n int) ([]string, error) {
	for {
		paths, err := r.Paths(vip)
		if err == nil && len(paths) == n {
			return paths, nil
		}
		select {
		case <-r.exited:
			return nil, fmt.Errorf("bird ended:\n%s", r.Log())
		case <-ctx.Done():
			return nil, fmt.Errorf("the router has the paths %v to %v, not %d (%v): %w\n%s", paths, vip, n, err, ctx.Err(), r.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Client makes requests from the client's network.
type Client struct {
	http  *http.Client
	mu    sync.Mutex
	lost  []string
	local netip.AddrPort
}

// conn notices that the other side ends it. That the client opens another says nothing: it also does when it was slow itself.
type conn struct {
	net.Conn
	ended atomic.Bool
	lost  func(error)
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && !c.ended.Swap(true) {
		c.lost(err)
	}
	return n, err
}

func (c *conn) Close() error {
	c.ended.Store(true)
	return c.Conn.Close()
}

// requestTime is more than what lost packets of a connection's beginning take to be repeated twice.
const requestTime = 10 * time.Second

// Client makes a client. With keep its requests follow each other on one connection; otherwise each has its own.
func (c *Cluster) Client(keep bool) (*Client, error) {
	path, err := c.clientNamespace()
	if err != nil {
		return nil, err
	}
	out := &Client{}
	dial := func(ctx context.Context, network, address string) (c net.Conn, err error) {
		failed := inNetwork(path, func() error {
			c, err = (&net.Dialer{}).DialContext(ctx, network, address)
			return nil
		})
		switch {
		case failed != nil:
			return nil, failed
		case err != nil:
			return nil, err
		}
		out.mu.Lock()
		defer out.mu.Unlock()
		out.local = c.LocalAddr().(*net.TCPAddr).AddrPort()
		from := out.local
		return &conn{Conn: c, lost: func(err error) {
			out.mu.Lock()
			defer out.mu.Unlock()
			out.lost = append(out.lost, fmt.Sprintf("%s: the connection from %v was lost: %v", time.Now().Format("15:04:05.000"), from, err))
		}}, nil
	}
	out.http = &http.Client{Timeout: requestTime, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: !keep, MaxConnsPerHost: 1}}
	return out, nil
}

// Get returns the body of the answer, which must be of status 200, and from where it was asked.
func (c *Client) Get(ctx context.Context, url string) (body string, from netip.AddrPort, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", from, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return "", from, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, res.Status, b)
	}
	return string(b), c.local, err
}

// Close ends the connection that is kept.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Load are requests that several clients make all the time.
type Load struct {
	stop    context.CancelFunc
	clients sync.WaitGroup
	mu      sync.Mutex
	seen    LoadResult
}

// LoadResult is what became of the requests.
type LoadResult struct {
	Requests, Failed int
	// Lost are connections of kept clients that the other side ended.
	Lost    int
	Slowest time.Duration
	// By counts the answers.
	By map[string]int
	// Errors are the first ones.
	Errors []string
}

// maxErrors of a LoadResult.
const maxErrors = 5

// StartLoad lets clients ask the URL, one request after the other, with a pause between: so many with a connection for each
// request, and so many with one that they keep. Answer makes of a body what is counted.
func (c *Cluster) StartLoad(url string, fresh, kept int, between time.Duration, answer func(body string) string) (*Load, error) {
	ctx, stop := context.WithCancel(context.Background())
	l := &Load{stop: stop, seen: LoadResult{By: map[string]int{}}}
	for n := range fresh + kept {
		keep := n >= fresh
		client, err := c.Client(keep)
		if err != nil {
			l.Stop()
			return nil, err
		}
		l.clients.Go(func() {
			defer client.Close()
			for ctx.Err() == nil {
				l.ask(client, url, answer)
				pause(ctx, between)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if keep {
				client.mu.Lock()
				defer client.mu.Unlock()
				l.seen.Lost += len(client.lost)
				l.seen.Errors = append(l.seen.Errors, client.lost...)
			}
		})
	}
	return l, nil
}

// ask makes one request. It is not cut short when the load ends: that would be a failure of nobody's.
func (l *Load) ask(client *Client, url string, answer func(string) string) {
	began := time.Now()
	body, from, err := client.Get(context.Background(), url)
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen.Requests++
	l.seen.Slowest = max(l.seen.Slowest, took)
	if err == nil {
		l.seen.By[answer(body)]++
		return
	}
	l.seen.Failed++
	if len(l.seen.Errors) < maxErrors {
		l.seen.Errors = append(l.seen.Errors, fmt.Sprintf("%s after %s, from %v: %v", began.Format("15:04:05.000"), took.Round(time.Millisecond), from, err))
	}
}

// Requests is how many were made so far.
func (l *Load) Requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen.Requests
}

// AwaitRequests waits until so many more were made.
func (l *Load) AwaitRequests(ctx context.Context, more int) error {
	want := l.Requests() + more
	for l.Requests() < want {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%d requests of %s were made: %w", l.Requests(), strconv.Itoa(want), err)
		}
		pause(ctx, 10*time.Millisecond)
	}
	return nil
}

// Stop lets the requests that are under way end, and tells what became of all.
func (l *Load) Stop() LoadResult {
	l.stop()
	l.clients.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}
