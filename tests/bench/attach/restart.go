package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/ipam"
	"padis.io/padis/scheduler/ledger"
	"padis.io/padis/scheduler/record"
	"padis.io/padis/tests/bench/bed"
)

const (
	// leased are the addresses of a /16, in which no instance has the first and the last.
	leased = 65_536 - 2
	apps   = 64
	agents = 512
)

// full is a ledger in which each address of a pool of 65,536 is leased by an instance that runs.
func full() record.Snapshot {
	s := record.Snapshot{Framework: &padisv1.FrameworkRecord{FrameworkId: "bench"}, Cluster: bed.Cluster("10.44.0.0/16")}
	for i := range agents {
		s.Agents = append(s.Agents, &padisv1.AgentRecord{AgentId: agent(i), Hostname: fmt.Sprint("host-", i)})
		s.Executors = append(s.Executors, &padisv1.ExecutorRecord{AgentId: agent(i), ExecutorId: bed.Executor})
	}
	for i := range apps {
		s.Apps = append(s.Apps, &padisv1.WantedApp{Uid: fmt.Sprintf("%08d%s", i, bed.UID[8:]), Namespace: bed.Space, Name: fmt.Sprint("web-", i),
			Revisions: []*padisv1.Revision{{Hash: "r1", Networks: []*padisv1.NetworkWish{{Pool: bed.Pool}}, Template: &padisv1.Template{Command: []string{"web"}}}}})
	}
	address := netip.MustParseAddr("10.44.0.0")
	for i := range leased {
		a := s.Apps[i%apps]
		slot := int32(i / apps)
		a.Slots = append(a.Slots, &padisv1.WantedSlot{Index: slot, Revision: "r1"})
		address = address.Next()
		s.Leases = append(s.Leases, &padisv1.LeaseRecord{Address: address.String(), Network: bed.Network, Pool: bed.Pool, AppUid: a.Uid, Namespace: a.Namespace,
			App: a.Name, Slot: slot, LeasedMs: 1})
		task := fmt.Sprintf("%s.%s-%d.%s.1", a.Namespace, a.Name, slot, a.Uid[:8])
		s.Instances = append(s.Instances, &padisv1.InstanceRecord{AppUid: a.Uid, Namespace: a.Namespace, App: a.Name, Slot: slot, Phase: padisv1.Phase_RUNNING,
			Revision: "r1", Attempt: 1, TaskId: task, AgentId: agent(i % agents), Hostname: fmt.Sprint("host-", i%agents), ExecutorId: bed.Executor,
			Addresses: []string{address.String()}, Ready: true, CreatedMs: 1, LaunchedMs: 1, RunningMs: 1, ReadyMs: 1})
	}
	return s
}

func agent(i int) string { return fmt.Sprintf("%s%d", bed.Agent, i) }

// writes are a snapshot as it comes into a ledger.
func writes(s record.Snapshot) []record.Write {
	out := []record.Write{{Key: record.KeyFramework, Value: s.Framework}, {Key: record.KeyCluster, Value: s.Cluster}}
	for _, a := range s.Apps {
		out = append(out, record.Write{Key: record.AppKey(a.Uid), Value: a})
	}
	for _, a := range s.Agents {
		out = append(out, record.Write{Key: record.AgentKey(a.AgentId), Value: a})
	}
	for _, e := range s.Executors {
		out = append(out, record.Write{Key: record.ExecutorKey(e.AgentId), Value: e})
	}
	for _, l := range s.Leases {
		out = append(out, record.Write{Key: record.LeaseKey(l.Network, l.Address), Value: l})
	}
	for _, i := range s.Instances {
		out = append(out, record.Write{Key: record.InstanceKey(record.Slot{AppUID: i.AppUid, Index: i.Slot}), Value: i})
	}
	return out
}

// choose measures the choice of an address in a pool of which two are free.
func choose() ([]figure, error) {
	s := full()
	book := ipam.New(s.Cluster, s.Leases[2:])
	w := ipam.Want{Slot: record.Slot{AppUID: bed.UID}, Namespace: bed.Space, App: bed.App, Networks: []*padisv1.NetworkWish{{Pool: bed.Pool}}}
	const times = 200_000
	var took time.Duration
	for range times {
		begun := time.Now()
		_, refusal := book.Lease(w)
		took += time.Since(begun)
		if refusal != nil {
			return nil, errors.New(refusal.Message)
		}
		book.Release(w.Slot)
	}
	return []figure{{"lease_choose_65536_us", "us", float64(took.Nanoseconds()) / 1e3 / times}}, nil
}

// restart measures what a scheduler does before it can decide: it takes the ledger over, reads it and makes its memory of
// it; the first step is part of it.
func (m *machine) restart() ([]figure, error) {
	ctx := context.Background()
	open := func() (*ledger.Ledger, error) {
		return ledger.Open(ctx, ledger.Config{Client: m.store.EtcdClient(), Prefix: "/padis/full/"})
	}
	l, err := open()
	if err != nil {
		return nil, err
	}
	if err := l.Commit(ctx, writes(full())); err != nil {
		return nil, err
	}
	if err := l.Close(); err != nil {
		return nil, err
	}
	var all []time.Duration
	for range 5 {
		begun := time.Now()
		l, err := open()
		if err != nil {
			return nil, err
		}
		snapshot, err := l.Load(ctx)
		if err != nil {
			return nil, err
		}
		c, err := core.New(core.Config{Role: "*"}, snapshot)
		if err != nil {
			return nil, err
		}
		e := c.Step(time.Now(), core.Tick{})
		all = append(all, time.Since(begun))
		if err := errors.Join(append(e.Errors, l.Close())...); err != nil {
			return nil, err
		}
		if n := len(snapshot.Leases); n != leased || len(e.Writes) != 0 {
			return nil, fmt.Errorf("of %d leases %d were read, and %d records were to be corrected", leased, n, len(e.Writes))
		}
	}
	return []figure{{"scheduler_restart_65536_ms", "ms", ms(quantile(all, 0.5))}}, nil
}
