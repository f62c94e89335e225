package drivers

import (
	"testing"

	"padis.io/padis/executor/network"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// With driver host nothing is made, changed or removed.
func TestConformanceHost(t *testing.T) {
	s := newSite(t, driver{name: "host", routed: true, network: &padisv1.Network{Name: "host", Driver: "host"}}, dual)
	h := s.hosts[0]
	w, err := network.Want(owner, "task", h.name, &padisv1.Launch{Attachments: []*padisv1.Attachment{{Network: s.network}}})
	if err != nil {
		t.Fatal(err)
	}
	before := h.links(t) + h.strangers(t) + moving.ReplaceAllString(h.ip(t, "ip addr show scope global\nip route"), "")
	for _, f := range []func() error{
		func() error { return h.Attach(h.fd, w) },
		func() error { return h.Adjust(h.fd, w) },
		func() error { return h.Renew(h.fd, w) },
		func() error { return h.Detach(h.fd, w) },
	} {
		if err := f(); err != nil {
			t.Error(err)
		}
		if ops, err := h.Check(h.fd, w); err != nil || len(ops) > 0 {
			t.Errorf("still to do: %v, %v", ops, err)
		}
		if after := h.links(t) + h.strangers(t) + moving.ReplaceAllString(h.ip(t, "ip addr show scope global\nip route"), ""); after != before {
			t.Errorf("the host was\n%s\nand is\n%s", before, after)
		}
	}
	for _, p := range pairs(h.own, s.far) {
		h.serve(t, p[0])
		h.asks(t, p[0], p[1], small)
		s.outside.asks(t, p[1], p[0], small)
	}
}
