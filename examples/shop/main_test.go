package main

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPages(t *testing.T) {
	t.Setenv("PADIS_INSTANCE", "web-3")
	t.Setenv("PADIS_ADDRESS", "10.44.1.4")
	t.Setenv("PADIS_HOST", "host-1")
	pages := pages("web shop")
	for _, c := range []struct {
		path string
		code int
		says string
	}{
		{"/", 200, "web shop: web-3 at 10.44.1.4 on host-1, visitor 1\n"},
		{"/", 200, "visitor 2"},
		{"/healthz", 200, "open\n"},
		{"/nowhere", 404, ""},
	} {
		r := httptest.NewRecorder()
		pages.ServeHTTP(r, httptest.NewRequest("GET", c.path, nil))
		if r.Code != c.code || !strings.Contains(r.Body.String(), c.says) {
			t.Errorf("%s: %d %q", c.path, r.Code, r.Body)
		}
	}
}

func TestAPortThatIsTaken(t *testing.T) {
	s := httptest.NewServer(pages("web shop"))
	defer s.Close()
	if err := run(strings.TrimPrefix(s.URL, "http://"), "second"); err == nil {
		t.Error("listens where another does")
	}
}
