package scheduler

import (
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// RecordsExec tells whether the tenant of a namespace wants exec sessions to be recorded.
func (l *Loop) RecordsExec(namespace string) bool {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	return slices.ContainsFunc(l.memory.executors.cluster.GetTenants(), func(t *padisv1.Tenant) bool {
		return t.GetRecordExec() && slices.Contains(t.GetNamespaces(), namespace)
	})
}
