package master

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Framework is how we present ourselves to the master.
type Framework struct {
	Name string
	// User that executors run as; "root" if empty.
	User string
	// Hostname and WebUI are shown in the master's user interface.
	Hostname string
	WebUI    string
	// Roles that we subscribe to; "*" if none.
	Roles []string
	// Principal names us to the master's authorizer. With a Secret, both are sent as HTTP basic authentication.
	Principal string
	Secret    string
	// FailoverTimeout is how long the master keeps our tasks while we are away; four weeks if 0, because Mesos
	// takes 0 to mean: kill everything within milliseconds of a lost connection.
	FailoverTimeout time.Duration
}

// Config of a Client. Masters, Framework.Name and Logger are required.
type Config struct {
	// Masters is "http://HOST[:PORT],HOST[:PORT]..." (or https://), or "zk://[USER:PASSWORD@]HOST[:PORT],.../PATH".
	Masters   string
	Framework Framework
	Logger    *zap.Logger

	// Rand gives numbers in [0,1) for the jitter of back-off; it need not be safe for concurrent use.
	Rand func() float64
	// Dial opens connections to masters; a TCP dialer with keep-alive if nil.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// CallTimeout bounds one call, retries included; 30 s if 0.
	CallTimeout time.Duration
	// MinBackoff and MaxBackoff bound the pause between attempts to subscribe; 100 ms and 10 s if 0.
	MinBackoff, MaxBackoff time.Duration
	// MaxFrame bounds one event; 512 MiB if 0.
	MaxFrame int
}

const (
	defaultMasterPort    = "5050"
	defaultZookeeperPort = "2181"
)

// masters is a Config.Masters taken apart.
type masters struct {
	scheme string // http, https or zk
	hosts  []string
	path   string // zk only
	user   *url.Userinfo
}

func (c *Config) validate() (masters, error) {
	var errs []error
	m, err := parseMasters(c.Masters)
	if err != nil {
		errs = append(errs, err)
	}
	if c.Framework.Name == "" {
		errs = append(errs, errors.New("framework has no name"))
	}
	if c.Framework.FailoverTimeout < 0 {
		errs = append(errs, fmt.Errorf("failover timeout %s is negative", c.Framework.FailoverTimeout))
	}
	if c.Logger == nil {
		errs = append(errs, errors.New("no logger"))
	}
	if c.Rand == nil {
		errs = append(errs, errors.New("no source of chance"))
	}
	return m, errors.Join(errs...)
}

func parseMasters(s string) (masters, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	m := masters{scheme: scheme}
	port := defaultMasterPort
	switch {
	case ok && (scheme == "http" || scheme == "https"):
		rest = strings.TrimSuffix(rest, "/")
	case ok && scheme == "zk":
		port = defaultZookeeperPort
		var path string
		rest, path, _ = strings.Cut(rest, "/")
		if path = strings.Trim(path, "/"); path == "" {
			return m, fmt.Errorf("masters %q: a ZooKeeper address needs the path of the masters' group, as in zk://host:2181/mesos", s)
		}
		m.path = "/" + path
		if i := strings.LastIndexByte(rest, '@'); i >= 0 {
			name, password, _ := strings.Cut(rest[:i], ":")
			m.user, rest = url.UserPassword(name, password), rest[i+1:]
		}
	default:
		return m, fmt.Errorf("masters %q: expected http://HOST:PORT,... or zk://HOST:PORT,.../PATH", s)
	}
	for _, h := range strings.Split(rest, ",") {
		host, err := withPort(h, port)
		if err != nil {
			return m, fmt.Errorf("masters %q: %w", s, err)
		}
		m.hosts = append(m.hosts, host)
	}
	return m, nil
}

// withPort completes HOST, HOST:PORT, [IPV6] and [IPV6]:PORT.
func withPort(s, port string) (string, error) {
	s = strings.TrimSpace(s)
	host := s
	if h, p, err := net.SplitHostPort(s); err == nil {
		host, port = h, p
	} else if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		host = s[1 : len(s)-1]
	} else if strings.Contains(s, ":") {
		return "", fmt.Errorf("address %q: an IPv6 address is written in brackets", s)
	}
	if host == "" || strings.ContainsAny(host, "/@?#[] ") {
		return "", fmt.Errorf("address %q is not HOST or HOST:PORT", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("address %q: port %q is not between 1 and 65535", s, port)
	}
	return net.JoinHostPort(host, port), nil
}
