package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"padis.io/padis/scheduler/record"
)

// pageSize is the number of records read at once: of 10,000 records of 1 KiB one page is 10 MiB. For each page etcd counts
// all keys that follow, too, so that many small ones take time with the square of their number.
const pageSize = 10_000

// maxLoads bounds the attempts to read the ledger while etcd compacts its history under the reader.
const maxLoads = 5

// Load reads the whole ledger as it was at one moment, in the order of its keys. Call it after the takeover: then what
// it returns is what no other process can change any more.
//
// A value that cannot be read is an ErrCorrupt that names the key and the remedy.
func (l *Ledger) Load(ctx context.Context) (record.Snapshot, error) {
	for n := 1; ; n++ {
		s, err := l.load(ctx, pageSize)
		// Reading at one moment fails if etcd drops that moment between two pages; a later moment will do as well.
		if errors.Is(err, rpctypes.ErrCompacted) && n < maxLoads {
			continue
		}
		return s, err
	}
}

func (l *Ledger) load(ctx context.Context, page int64) (record.Snapshot, error) {
	var out record.Snapshot
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := l.fetch(ctx, l.cfg.Prefix, page, 0)
	var revision int64
	for {
		p := <-next
		if p.err != nil {
			return record.Snapshot{}, fmt.Errorf("ledger: read: %w", p.err)
		}
		got := p.got
		if revision == 0 {
			revision = got.Header.Revision
		}
		more := got.More && len(got.Kvs) > 0
		if more {
			// etcd looks for the next page while this one is decoded.
			next = l.fetch(ctx, string(got.Kvs[len(got.Kvs)-1].Key)+"\x00", page, revision)
		}
		for _, kv := range got.Kvs {
			key := strings.TrimPrefix(string(kv.Key), l.cfg.Prefix)
			if key == keyEpoch || strings.HasPrefix(key, keyLeader+"/") {
				continue
			}
			if err := decode(&out, key, kv.Value); err != nil {
				return record.Snapshot{}, fmt.Errorf("ledger: key %s: %w", kv.Key, err)
			}
		}
		if !more {
			return out, nil
		}
	}
}

// fetched is one page, or why there is none.
type fetched struct {
	got *clientv3.GetResponse
	err error
}

// fetch reads a page of the keys from one on, as they were at the revision; 0 is now.
func (l *Ledger) fetch(ctx context.Context, from string, page, revision int64) <-chan fetched {
	c := make(chan fetched, 1)
	go func() {
		got, err := l.client.Get(ctx, from,
			clientv3.WithRange(clientv3.GetPrefixRangeEnd(l.cfg.Prefix)),
			clientv3.WithLimit(page), clientv3.WithRev(revision))
		c <- fetched{got, err}
	}()
	return c
}
