package source

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"padis.io/padis/reconcile/gitops/source/sourcetest"
)

// passedOn is a connection that somebody passes on, who has an address without a port.
type passedOn struct{ net.Conn }

func (passedOn) RemoteAddr() net.Addr { return &net.UnixAddr{Name: "/run/outside", Net: "unix"} }

// All that goes to servers and proxies goes by Options.Dial.
func TestDial(t *testing.T) {
	t.Parallel()
	w := sourcetest.NewWork(t)
	commit := w.Commit("a.yaml", "a: 1\n")
	proxy := sourcetest.NewProxy(t, "", "")
	for _, s := range []*sourcetest.Server{sourcetest.HTTP(t, w, sourcetest.Login{}), sourcetest.HTTPS(t, w, sourcetest.Login{}), sourcetest.SSH(t, w)} {
		var dialled atomic.Int64
		c := newCache(t, Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled.Add(1)
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return passedOn{conn}, err
		}})
		if rev := fetch(t, c, specOf(s)); rev.Commit != commit || dialled.Load() == 0 {
			t.Errorf("%s: commit %s, dialled %d times", s.Name, rev.Commit, dialled.Load())
		}
		none := newCache(t, Options{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no way out") }})
		refused(t, none, specOf(s), ReasonUnreachable, "no way out")
		by := specOf(s)
		by.Proxy = proxy.URL
		if s.Name == "ssh" {
			by.Proxy = "socks5://" + strings.TrimPrefix(proxy.URL, "http://")
		}
		refused(t, none, by, ReasonUnreachable, "no way out")
	}
	if proxy.Used() > 0 {
		t.Error("the proxy was reached all the same")
	}
}
