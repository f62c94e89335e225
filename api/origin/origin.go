// Package origin says at whose word a Sync changes something, from the reconciler to the audit log: in the context of a
// request, and in its headers. The server believes the headers of the Syncs of its own process, and nobody else's.
// Edge: talks to HTTP.
package origin

import (
	"context"
	"net/http"
	"net/url"
	"unicode/utf8"
)

// The headers; their values are percent-encoded, since names of people have all letters.
const (
	commitHeader = "X-Padis-Commit"
	authorHeader = "X-Padis-Author"
	signerHeader = "X-Padis-Signer"
)

// maxValue bounds what is read of a header, in bytes.
const maxValue = 256

// Origin is the commit that a change comes from, who made it, and whose key signed it. Each may be empty.
type Origin struct{ Commit, Author, Signer string }

type key struct{}

// With has requests of the context say where they come from, if they go through a Transport.
func With(ctx context.Context, o Origin) context.Context { return context.WithValue(ctx, key{}, o) }

// Transport puts the origin in a request's context into its headers.
func Transport(next http.RoundTripper) http.RoundTripper { return transport{next} }

type transport struct{ next http.RoundTripper }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	o, ok := r.Context().Value(key{}).(Origin)
	if !ok {
		return t.next.RoundTrip(r)
	}
	r = r.Clone(r.Context())
	for header, value := range map[string]string{commitHeader: o.Commit, authorHeader: o.Author, signerHeader: o.Signer} {
		if value != "" {
			r.Header.Set(header, url.PathEscape(value))
		}
	}
	return t.next.RoundTrip(r)
}

// Read reads the headers. What cannot be read is empty, what is too long is cut.
func Read(h http.Header) Origin {
	return Origin{Commit: read(h, commitHeader), Author: read(h, authorHeader), Signer: read(h, signerHeader)}
}

func read(h http.Header, name string) string {
	s, err := url.PathUnescape(h.Get(name))
	if err != nil || !utf8.ValidString(s) {
		return ""
	}
	if len(s) <= maxValue {
		return s
	}
	end := maxValue
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
