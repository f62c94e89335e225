package ipam

import (
	"fmt"
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// scope is what a count of leases is of: one namespace and one pool, or with an empty pool all of them.
type scope struct{ namespace, pool string }

// countForTenant counts a lease that is held in (1) or out (-1).
func (b *Book) countForTenant(l *padisv1.LeaseRecord, n int64) {
	for _, s := range []scope{{l.GetNamespace(), ""}, {l.GetNamespace(), l.GetPool()}} {
		if b.holdings[s] += n; b.holdings[s] == 0 {
			delete(b.holdings, s)
		}
	}
}

// overQuota refuses a claim that would let its tenant hold more than a quota allows. Addresses that cool are held by
// nobody. The slot's leases that fit no wish any more do not count, because they are given up next; and what does not
// make the tenant hold more is never refused, so that a lowered quota takes nothing away.
func (c *claim) overQuota() *Refusal {
	t := c.book.tenants[c.want.Tenant]
	for _, q := range t.GetAddressQuotas() {
		covers := func(pool string) bool { return q.GetPool() == "" || q.GetPool() == pool }
		var wanted, fresh, mine int64
		for _, k := range c.picks {
			if k.found && covers(k.pool.name) {
				if wanted++; k.kept == nil {
					fresh++
				}
			}
		}
		for _, l := range c.held {
			if covers(l.GetPool()) {
				mine++
			}
		}
		held := c.book.heldBy(t, c.want.Namespace, q.GetPool())
		if fresh == 0 || wanted <= mine || held-mine+wanted <= q.GetMax() {
			continue
		}
		of := "addresses"
		if q.GetPool() != "" {
			of = fmt.Sprintf("addresses of pool %q", q.GetPool())
		}
		return refuse(padisv1.ReasonAddressQuotaExceeded,
			"tenant %q holds %d %s and may hold %d, but %s needs %d more; raise the Tenant's address quota, or scale one of its Apps in",
			t.GetName(), held, of, q.GetMax(), c.name(), wanted-mine)
	}
	return nil
}

// heldBy counts the leases of a tenant's namespaces, the given one among them.
func (b *Book) heldBy(t *padisv1.Tenant, namespace, pool string) int64 {
	var n int64
	all := t.GetNamespaces()
	for i, ns := range all {
		if !slices.Contains(all[:i], ns) {
			n += b.holdings[scope{ns, pool}]
		}
	}
	if !slices.Contains(all, namespace) {
		n += b.holdings[scope{namespace, pool}]
	}
	return n
}
