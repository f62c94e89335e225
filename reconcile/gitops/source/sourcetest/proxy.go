package sourcetest

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"testing"
)

// Proxy is an http proxy, for http and by CONNECT for anything else.
type Proxy struct {
	// URL without credentials.
	URL string
	// Login is what it asks for.
	Login
	used atomic.Int64
}

// Used is how many requests it has let pass.
func (p *Proxy) Used() int64 { return p.used.Load() }

// NewProxy starts a proxy that asks for a user and password, if there are any.
func NewProxy(t testing.TB, username, password string) *Proxy {
	t.Helper()
	p, g := &Proxy{Login: Login{Username: username, Password: password}}, listen(t)
	var open sync.WaitGroup
	plain := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.Header.Del("Proxy-Authorization") }, ErrorLog: log.New(io.Discard, "", 0)}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !p.lets(r.Header.Get("Proxy-Authorization")):
			w.Header().Set("Proxy-Authenticate", "Basic")
			w.WriteHeader(http.StatusProxyAuthRequired)
		case r.Method == http.MethodConnect:
			p.used.Add(1)
			tunnel(w, r.Host, &open)
		case r.URL.IsAbs():
			p.used.Add(1)
			plain.ServeHTTP(w, r)
		default:
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	_ = s.Listener.Close()
	s.Listener = g
	s.Start()
	p.URL = s.URL
	t.Cleanup(func() { s.Close(); g.stop(); open.Wait() })
	return p
}

// tunnel joins the client with an address until one of them ends.
func tunnel(w http.ResponseWriter, addr string, open *sync.WaitGroup) {
	far, err := net.Dial("tcp", addr)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	near, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		far.Close()
		return
	}
	_, _ = io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n")
	end := sync.OnceFunc(func() { near.Close(); far.Close() })
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		open.Go(func() {
			defer end()
			_, _ = io.Copy(way[0], way[1])
		})
	}
}
