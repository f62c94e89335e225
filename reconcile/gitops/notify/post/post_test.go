package post

import (
	"context"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const secretPath = "/services/T000/B000/secret"

func TestPost(t *testing.T) {
	type seen struct{ method, path, auth, kind, body string }
	var last seen
	code, location := http.StatusOK, ""
	take := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		last = seen{r.Method, r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("Content-Type"), string(b)}
		if location != "" {
			w.Header().Set("Location", location)
		}
		w.WriteHeader(code)
	})
	plain, tls := httptest.NewServer(take), httptest.NewTLSServer(take)
	t.Cleanup(plain.Close)
	t.Cleanup(tls.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw})
	p := New(Dialer(true).DialContext)
	for _, r := range []Receiver{{URL: plain.URL + secretPath}, {URL: plain.URL + secretPath, Token: "t"}, {URL: tls.URL + secretPath, CA: ca, Token: "t"}} {
		want := seen{"POST", secretPath, "", "application/json", `{"text":"x"}`}
		if r.Token != "" {
			want.auth = "Bearer t"
		}
		if err := p.Post(t.Context(), r, []byte(want.body)); err != nil || last != want {
			t.Errorf("%v, got %+v", err, last)
		}
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	_, port, _ := net.SplitHostPort(plain.Listener.Addr().String())
	for _, c := range []struct {
		name     string
		poster   *Poster
		r        Receiver
		code     int
		location string
		want     string
	}{
		{"an error", p, Receiver{URL: plain.URL + secretPath}, 500, "", "500 Internal Server Error"},
		{"not found", p, Receiver{URL: plain.URL + secretPath}, 404, "", "compare the keys url and token"},
		{"a redirect", p, Receiver{URL: plain.URL + secretPath}, 307, tls.URL, "redirects are not followed"},
		{"nobody", p, Receiver{URL: "http://" + gone.Addr().String() + secretPath}, 0, "", "refused"},
		{"no name", p, Receiver{URL: "http://receiver.invalid" + secretPath}, 0, "", "receiver.invalid"},
		{"an unknown authority", p, Receiver{URL: tls.URL + secretPath}, 0, "", "certificate"},
		{"no authority", p, Receiver{URL: tls.URL + secretPath, CA: []byte("x")}, 0, "", "ca.crt"},
		{"no URL", p, Receiver{}, 0, "", "the key url"},
		{"another scheme", p, Receiver{URL: "file://" + secretPath}, 0, "", "the key url"},
		{"what is no URL", p, Receiver{URL: "http://a b" + secretPath}, 0, "", "the key url"},
		{"a URL with a control character", p, Receiver{URL: "http://a" + secretPath + "\x00"}, 0, "", "the key url"},
		{"a header by the token", p, Receiver{URL: plain.URL + secretPath, Token: "a\r\nX: y"}, 0, "", "header"},
		{"this host", New(Dialer(false).DialContext), Receiver{URL: plain.URL + secretPath}, 0, "", "is this host itself"},
		{"this host by name", New(Dialer(false).DialContext), Receiver{URL: "http://localhost:" + port + secretPath}, 0, "", "is this host itself"},
		{"this host by another address", p, Receiver{URL: "http://0.0.0.0:" + port + secretPath}, 0, "", "is this host itself"},
		{"a cloud's secrets", p, Receiver{URL: "http://169.254.169.254" + secretPath}, 0, "", "is link-local"},
		{"a cloud's secrets by IPv6", p, Receiver{URL: "http://[::ffff:169.254.169.254]" + secretPath}, 0, "", "is link-local"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, location, last = c.code, c.location, seen{}
			if code == 0 {
				code = http.StatusOK
			}
			err := c.poster.Post(t.Context(), c.r, []byte("{}"))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "B000") {
				t.Errorf("got %v", err)
			}
			if c.code == 0 && last != (seen{}) {
				t.Errorf("it was sent: %+v", last)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Post(ctx, Receiver{URL: plain.URL + secretPath}, nil); err == nil {
		t.Error("sent, though it was not to be")
	}
}
