package origin

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

type last struct{ request *http.Request }

func (l *last) RoundTrip(r *http.Request) (*http.Response, error) {
	l.request = r
	return nil, nil
}

func TestAnOriginGetsThrough(t *testing.T) {
	t.Parallel()
	to := &last{}
	for _, want := range []Origin{{}, {Commit: "abc"}, {Commit: "abc", Author: "Zoë\r\nX: y <z@example.com>", Signer: "100% ssh-ed25519 AAAA"}} {
		r, err := http.NewRequestWithContext(With(context.Background(), want), http.MethodGet, "http://example.com/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Transport(to).RoundTrip(r); err != nil {
			t.Fatal(err)
		}
		if got := Read(to.request.Header); got != want {
			t.Errorf("%+v became %+v", want, got)
		}
		if len(r.Header) > 0 {
			t.Error("the request itself was changed")
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("abc")
	f.Add("%zz")
	f.Add(strings.Repeat("%E2%82%AC", 200))
	f.Fuzz(func(t *testing.T, s string) {
		got := Read(http.Header{commitHeader: {s}, authorHeader: {s}}).Commit
		if len(got) > maxValue || !utf8.ValidString(got) {
			t.Errorf("%q became %q", s, got)
		}
	})
}
