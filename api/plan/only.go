package plan

import (
	"slices"
	"strings"
)

// elsewhere stands for what is unfinished where the reader may not see it.
const elsewhere = "not all has come to rest in namespaces whose instances you may not list: ask somebody who may"

// Only leaves out what happens in other namespaces than those that may be seen. Quotas of tenants are seen by who may see the
// tenant, or instances that wait because of them.
func (p *Plan) Only(sees, seesTenant func(name string) bool) {
	p.Apps = slices.DeleteFunc(p.Apps, func(a App) bool { return !sees(a.Namespace) })
	p.Addresses = slices.DeleteFunc(p.Addresses, func(a Address) bool {
		for _, holder := range []string{a.From, a.To} {
			if ns, ok := namespaceOf(holder); ok && !sees(ns) {
				return true
			}
		}
		return false
	})
	p.Quotas = slices.DeleteFunc(p.Quotas, func(q Quota) bool {
		return !seesTenant(q.Tenant) && !slices.ContainsFunc(q.Namespaces, sees)
	})
	for i := range p.Quotas {
		q := &p.Quotas[i]
		q.Namespaces = slices.DeleteFunc(slices.Clone(q.Namespaces), func(n string) bool { return !sees(n) })
	}
	if slices.ContainsFunc(p.UnfinishedIn, func(n string) bool { return !sees(n) }) {
		p.Unfinished = elsewhere
	}
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
