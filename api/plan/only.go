package plan

import (
	"slices"
	"strings"
)

// Only leaves out what happens in other namespaces than those that may be seen.
func (p *Plan) Only(sees func(namespace string) bool) {
	p.Apps = slices.DeleteFunc(p.Apps, func(a App) bool { return !sees(a.Namespace) })
	p.Addresses = slices.DeleteFunc(p.Addresses, func(a Address) bool {
		for _, holder := range []string{a.From, a.To} {
			if ns, ok := namespaceOf(holder); ok && !sees(ns) {
				return true
			}
		}
		return false
	})
}

// namespaceOf reads that of a holder of an address: "shop/web-0", or "loadbalancer shop/front".
func namespaceOf(holder string) (string, bool) {
	_, last, ok := strings.Cut(holder, " ")
	if !ok {
		last = holder
	}
	namespace, _, ok := strings.Cut(last, "/")
	return namespace, ok
}
