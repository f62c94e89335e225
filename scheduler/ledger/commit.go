package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// maxTxnBytes is what a transaction may hold: etcd refuses requests above 1.5 MiB, of which the framing takes a part.
const maxTxnBytes = 1<<20 + 1<<18

// Delays between attempts at a transaction that etcd could not take.
const (
	firstDelay = 20 * time.Millisecond
	lastDelay  = time.Second
)

// Commit makes the writes durable. Of several writes of one key the last counts. It tries again while etcd is away,
// until ctx ends: writes are absolute, so that one that was applied unseen does no harm when it is repeated.
//
// Up to Config.MaxTxnOps writes and 1.25 MiB are one transaction: all or nothing. What is more goes in several, in this
// order, so that whatever is left after a crash in between is consistent:
//
//  1. what others refer to: framework, cluster, Apps, agents, executors;
//  2. slot by slot its leases and its instance, never split;
//  3. deletions the other way round: instances, then leases, then executors, agents and Apps.
//
// So there may be a lease without its instance, which is to be released, or an App without its instances, which are to
// be made, but never an instance without its lease, its App, its agent or its executor. Where a lease passes from one
// slot to another, the lease decides who has the address.
//
// After an error other than ErrFenced some of the transactions may be durable, in this order. The same Commit may be
// repeated; otherwise Load again before deciding anything.
func (l *Ledger) Commit(ctx context.Context, writes []record.Write) error {
	if len(writes) == 0 {
		return nil
	}
	chunks, err := split(writes, l.cfg.MaxTxnOps, maxTxnBytes)
	if err != nil {
		return err
	}
	l.commit.Lock()
	defer l.commit.Unlock()
	l.mu.Lock()
	revision := l.revision
	l.mu.Unlock()
	if revision == 0 {
		return ErrNotLeading
	}
	for _, c := range chunks {
		if err := l.transact(ctx, revision, c); err != nil {
			return err
		}
	}
	return nil
}

// transact carries out one transaction, again and again while that can help.
func (l *Ledger) transact(ctx context.Context, revision int64, c chunk) error {
	ops := make([]clientv3.Op, len(c))
	for i, p := range c {
		if p.deletes {
			ops[i] = clientv3.OpDelete(l.cfg.Prefix + p.key)
		} else {
			ops[i] = clientv3.OpPut(l.cfg.Prefix+p.key, p.value)
		}
	}
	guard := clientv3.Compare(clientv3.ModRevision(l.cfg.Prefix+keyEpoch), "=", revision)
	for delay := firstDelay; ; delay = min(2*delay, lastDelay) {
		got, err := l.client.Txn(ctx).If(guard).Then(ops...).Commit()
		switch {
		case err == nil && got.Succeeded:
			return nil
		case err == nil:
			return ErrFenced
		case ctx.Err() != nil:
			return fmt.Errorf("ledger: write %d records: %w", len(ops), err)
		case isPermanent(err):
			return fmt.Errorf("ledger: write %d records: %w; %s", len(ops), err, remedy(err))
		}
		l.log.Warn("etcd did not take a transaction, trying again", zap.Error(err), zap.Int("records", len(ops)), zap.Duration("after", delay))
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return fmt.Errorf("ledger: write %d records: %w", len(ops), errors.Join(ctx.Err(), err))
		}
	}
}

// permanent are the answers of etcd that another attempt does not change, and what does.
var permanent = map[error]string{
	rpctypes.ErrTooManyOps:       "start etcd with a larger --max-txn-ops, or tell Padis the one that it has",
	rpctypes.ErrRequestTooLarge:  "start etcd with a larger --max-request-bytes",
	rpctypes.ErrNoSpace:          "etcd is full: compact and defragment it, clear its alarm, or raise --quota-backend-bytes",
	rpctypes.ErrPermissionDenied: "give the user read and write permission for the ledger's prefix",
	rpctypes.ErrUserEmpty:        "etcd demands a user: give a client certificate",
	rpctypes.ErrAuthFailed:       "give a client certificate that etcd accepts",
	rpctypes.ErrInvalidAuthToken: "give a client certificate that etcd accepts",
	rpctypes.ErrCorrupt:          "etcd has found its data corrupt: restore it from a backup",
}

func isPermanent(err error) bool { return remedy(err) != "" }

// remedy says what helps against a permanent error; empty for the others.
func remedy(err error) string {
	for p, r := range permanent {
		if errors.Is(err, p) {
			return r
		}
	}
	return ""
}

// part is one write, serialised.
type part struct {
	key     string
	value   string
	deletes bool
}

// chunk is one transaction.
type chunk []part

// group is what must not be split between transactions, except by size.
type group struct {
	rank  int
	parts []part
}

// Ranks of groups: the order of Commit.
const (
	rankFramework = iota
	rankCluster
	rankApp
	rankAgent
	rankExecutor
	rankSlot
	rankEndInstance
	rankEndLease
	rankEndExecutor
	rankEndAgent
	rankEndApp
	rankEndRest
)

// split serialises the writes and deals them out to transactions of at most so many operations and bytes.
func split(writes []record.Write, maxOps, maxBytes int) ([]chunk, error) {
	groups, err := arrange(writes)
	if err != nil {
		return nil, err
	}
	var (
		chunks  []chunk
		current chunk
		bytes   int
	)
	flush := func() {
		if len(current) > 0 {
			chunks = append(chunks, current)
		}
		current, bytes = nil, 0
	}
	for _, g := range groups {
		size := 0
		for _, p := range g.parts {
			size += p.size()
		}
		if len(current)+len(g.parts) > maxOps || bytes+size > maxBytes {
			flush()
		}
		for _, p := range g.parts {
			// Only a group that is too large for a transaction of its own is split here; its leases come first.
			if len(current)+1 > maxOps || bytes+p.size() > maxBytes {
				flush()
			}
			current = append(current, p)
			bytes += p.size()
		}
	}
	flush()
	return chunks, nil
}

// size is the room that a part takes in a request, with a margin for its framing and the prefix.
func (p part) size() int { return len(p.key) + len(p.value) + 256 }

// arrange groups the writes and orders the groups. Within a rank the order of the writes is kept.
func arrange(writes []record.Write) ([]*group, error) {
	last := make(map[string]int, len(writes))
	for i, w := range writes {
		last[w.Key] = i
	}
	var groups []*group
	slots := map[record.Slot]*group{}
	for i, w := range writes {
		if last[w.Key] != i {
			continue
		}
		p := part{key: w.Key, deletes: w.Value == nil}
		if !p.deletes {
			var err error
			if p.value, err = encode(w.Key, w.Value); err != nil {
				return nil, err
			}
		} else if _, err := message(w.Key); err != nil {
			return nil, fmt.Errorf("ledger: delete %s: %w", w.Key, err)
		}
		rank, s, slotted := place(w)
		if !slotted {
			groups = append(groups, &group{rank, []part{p}})
			continue
		}
		g := slots[s]
		if g == nil {
			g = &group{rank: rankSlot}
			slots[s] = g
			groups = append(groups, g)
		}
		g.parts = append(g.parts, p)
	}
	slices.SortStableFunc(groups, func(a, b *group) int { return cmp.Compare(a.rank, b.rank) })
	for _, g := range slots {
		slices.SortStableFunc(g.parts, func(a, b part) int { return cmp.Compare(isInstance(a), isInstance(b)) })
	}
	return groups, nil
}

func isInstance(p part) int {
	if strings.HasPrefix(p.key, record.PrefixInstance) {
		return 1
	}
	return 0
}

// place returns the rank of a write, and for leases and instances that are kept the slot that they belong to.
func place(w record.Write) (rank int, s record.Slot, slotted bool) {
	switch m := w.Value.(type) {
	case *padisv1.FrameworkRecord:
		return rankFramework, s, false
	case *padisv1.Cluster:
		return rankCluster, s, false
	case *padisv1.WantedApp:
		return rankApp, s, false
	case *padisv1.AgentRecord:
		return rankAgent, s, false
	case *padisv1.ExecutorRecord:
		return rankExecutor, s, false
	case *padisv1.LeaseRecord:
		return rankSlot, slot(m), true
	case *padisv1.InstanceRecord:
		return rankSlot, slot(m), true
	}
	for prefix, rank := range endings {
		if strings.HasPrefix(w.Key, prefix) {
			return rank, s, false
		}
	}
	return rankEndRest, s, false
}

// endings are the ranks of deletions.
var endings = map[string]int{
	record.PrefixInstance: rankEndInstance,
	record.PrefixLease:    rankEndLease,
	record.PrefixExecutor: rankEndExecutor,
	record.PrefixAgent:    rankEndAgent,
	record.PrefixApp:      rankEndApp,
}
