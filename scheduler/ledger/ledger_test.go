package ledger

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// etcd runs a server on a socket of its own and returns its endpoint.
func etcd(t testing.TB, dir string) (endpoint string, stop func()) {
	t.Helper()
	_, endpoint, stop = serve(t, dir)
	return endpoint, stop
}

func serve(t testing.TB, dir string) (e *embed.Etcd, endpoint string, stop func()) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = filepath.Join(dir, "data")
	cfg.Logger, cfg.LogLevel, cfg.LogOutputs = "zap", "error", []string{filepath.Join(dir, "log")}
	client := url.URL{Scheme: "unix", Path: filepath.Join(dir, "client")}
	peer := url.URL{Scheme: "unix", Path: filepath.Join(dir, "peer")}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	// One member has nobody to wait for.
	cfg.TickMs, cfg.ElectionMs = 10, 100
	// Figures are those of a disk; the tests are about something else.
	_, measured := t.(*testing.B)
	cfg.UnsafeNoFsync = !measured
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop = func() { e.Close() }
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		t.Fatal(err)
	}
	return e, client.String(), stop
}

// start runs a server for the time of the test.
func start(t testing.TB) string {
	t.Helper()
	endpoint, stop := etcd(t, t.TempDir())
	t.Cleanup(stop)
	return endpoint
}

func open(t testing.TB, cfg Config) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func on(endpoint string) Config {
	return Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()}
}

func instance(app string, slot int32) *padisv1.InstanceRecord {
	return &padisv1.InstanceRecord{AppUid: app, Slot: slot, App: "web", Namespace: "shop", Phase: padisv1.Phase_STAGING,
		Addresses: []string{address(slot)}, TaskId: fmt.Sprintf("shop.web-%d.%s.1", slot, app)}
}

func lease(app string, slot int32) *padisv1.LeaseRecord {
	return &padisv1.LeaseRecord{Address: address(slot), Network: "lan", Pool: "web", AppUid: app, Slot: slot}
}

func address(slot int32) string { return fmt.Sprintf("10.44.%d.%d", slot/250, slot%250+1) }

func put(m proto.Message) record.Write {
	switch m := m.(type) {
	case *padisv1.InstanceRecord:
		return record.Write{Key: record.InstanceKey(slot(m)), Value: m}
	case *padisv1.LeaseRecord:
		return record.Write{Key: record.LeaseKey(m.GetNetwork(), m.GetAddress()), Value: m}
	case *padisv1.WantedApp:
		return record.Write{Key: record.AppKey(m.GetUid()), Value: m}
	case *padisv1.AgentRecord:
		return record.Write{Key: record.AgentKey(m.GetAgentId()), Value: m}
	case *padisv1.ExecutorRecord:
		return record.Write{Key: record.ExecutorKey(m.GetAgentId()), Value: m}
	case *padisv1.Cluster:
		return record.Write{Key: record.KeyCluster, Value: m}
	case *padisv1.FrameworkRecord:
		return record.Write{Key: record.KeyFramework, Value: m}
	case *padisv1.WantedBalancer:
		return record.Write{Key: record.BalancerKey(m.GetUid()), Value: m}
	case *padisv1.BalanceRecord:
		return record.Write{Key: record.BalanceKey(m.GetUid()), Value: m}
	}
	panic(fmt.Sprintf("no key for a %T", m))
}

func drop(m proto.Message) record.Write { return record.Write{Key: put(m).Key} }

func one() []record.Write {
	return []record.Write{
		put(instance("u1", 0)), put(lease("u1", 0)),
		put(&padisv1.FrameworkRecord{FrameworkId: "f"}),
		put(&padisv1.Cluster{Pools: []*padisv1.Pool{{Name: "web"}}}),
		put(&padisv1.WantedApp{Uid: "u1", Name: "web"}),
		put(&padisv1.ExecutorRecord{AgentId: "a", ExecutorId: "e"}),
		put(&padisv1.AgentRecord{AgentId: "a", Hostname: "h"}),
		put(&padisv1.WantedBalancer{Uid: "lb", Name: "front"}), put(&padisv1.BalanceRecord{Uid: "lb", Number: 7}),
	}
}

func TestWhatIsCommittedIsLoadedAfterARestartOfEtcd(t *testing.T) {
	dir := t.TempDir()
	endpoint, stop := etcd(t, dir)
	l, err := Open(t.Context(), on(endpoint))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Commit(t.Context(), one()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	stop()
	endpoint, stop = etcd(t, dir)
	t.Cleanup(stop)
	l = open(t, on(endpoint))
	if l.Epoch() != 2 {
		t.Errorf("epoch %d after the second takeover", l.Epoch())
	}
	s := load(t, l)
	if s.Framework.GetFrameworkId() != "f" || len(s.Cluster.GetPools()) != 1 || len(s.Apps) != 1 || len(s.Executors) != 1 || len(s.Agents) != 1 ||
		len(s.Balancers) != 1 || len(s.Balances) != 1 || s.Balances[0].GetNumber() != 7 {
		t.Errorf("loaded %+v", s)
	}
	if len(s.Instances) != 1 || !proto.Equal(s.Instances[0], instance("u1", 0)) {
		t.Errorf("instances %v", s.Instances)
	}
	if len(s.Leases) != 1 || !proto.Equal(s.Leases[0], lease("u1", 0)) {
		t.Errorf("leases %v", s.Leases)
	}
	if err := l.Commit(t.Context(), []record.Write{drop(instance("u1", 0)), drop(lease("u1", 0))}); err != nil {
		t.Fatal(err)
	}
	if s := load(t, l); len(s.Instances)+len(s.Leases) != 0 || len(s.Apps) != 1 {
		t.Errorf("after deletion %+v", s)
	}
}

func TestAnEtcdInThisProcessNeedsNoSocket(t *testing.T) {
	e, _, stop := serve(t, t.TempDir())
	t.Cleanup(stop)
	l := open(t, Config{Client: v3client.New(e.Server), Logger: zap.NewNop()})
	if err := l.Commit(t.Context(), one()); err != nil {
		t.Fatal(err)
	}
	if s := load(t, l); len(s.Instances) != 1 || len(s.Leases) != 1 {
		t.Errorf("loaded %+v", s)
	}
	young := open(t, Config{Client: v3client.New(e.Server), Logger: zap.NewNop()})
	if err := l.Commit(t.Context(), one()); !errors.Is(err, ErrFenced) {
		t.Errorf("the older one got %v", err)
	}
	if err := young.Commit(t.Context(), one()); err != nil {
		t.Error(err)
	}
}

func load(t testing.TB, l *Ledger) record.Snapshot {
	t.Helper()
	s, err := l.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnOlderSchedulerIsFenced(t *testing.T) {
	endpoint := start(t)
	old := open(t, on(endpoint))
	if err := old.Commit(t.Context(), one()); err != nil {
		t.Fatal(err)
	}
	young := open(t, on(endpoint))
	err := old.Commit(t.Context(), []record.Write{put(instance("u1", 1))})
	if !errors.Is(err, ErrFenced) {
		t.Fatalf("the older one got %v", err)
	}
	if err := young.Commit(t.Context(), []record.Write{put(instance("u1", 2))}); err != nil {
		t.Fatal(err)
	}
	s := load(t, young)
	if len(s.Instances) != 2 || s.Instances[1].GetSlot() != 2 {
		t.Errorf("the fenced write is there: %v", s.Instances)
	}
}

func TestOneLeadsAtATimeAndAStandByTakesOver(t *testing.T) {
	endpoint := start(t)
	cfg := on(endpoint)
	cfg.StandBy = true
	first, second := open(t, cfg), open(t, cfg)
	if err := first.Commit(t.Context(), one()); !errors.Is(err, ErrNotLeading) {
		t.Fatalf("wrote before leading: %v", err)
	}
	lost, err := first.Lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Commit(t.Context(), one()); err != nil {
		t.Fatal(err)
	}
	led := make(chan error, 1)
	go func() {
		_, err := second.Lead(t.Context())
		led <- err
	}()
	waitFor(t, "the stand-by to queue up", func() bool {
		got, err := first.client.Get(t.Context(), DefaultPrefix+keyLeader+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && got.Count == 2
	})
	select {
	case err := <-led:
		t.Fatalf("the stand-by leads beside the leader: %v", err)
	case <-lost:
		t.Fatal("the leader lost leadership")
	default:
	}
	// The leader dies: its lease ends with it.
	if _, err := first.client.Revoke(t.Context(), first.session.Lease()); err != nil {
		t.Fatal(err)
	}
	if err := <-led; err != nil {
		t.Fatal(err)
	}
	<-lost
	if err := first.Commit(t.Context(), one()); !errors.Is(err, ErrFenced) {
		t.Errorf("the former leader wrote: %v", err)
	}
	if err := second.Commit(t.Context(), one()); err != nil {
		t.Error(err)
	}
	if s := load(t, second); len(s.Instances) != 1 {
		t.Errorf("candidates and epoch are read as records: %+v", s)
	}
}

func TestAStandByTakesOverFromALeaderThatIsGone(t *testing.T) {
	endpoint := start(t)
	cfg := on(endpoint)
	cfg.StandBy = true
	gone, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gone.Lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	// No more signs of life, and nobody gives the place back: as after kill -9.
	if err := gone.client.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	next := open(t, cfg)
	if _, err := next.Lead(ctx); err != nil {
		t.Fatal(err)
	}
	if next.Epoch() != 2 {
		t.Errorf("epoch %d", next.Epoch())
	}
}

func TestAStandByThatStopsWaitingLeavesNothingBehind(t *testing.T) {
	cfg := on(start(t))
	cfg.StandBy = true
	leader, other := open(t, cfg), open(t, cfg)
	if _, err := leader.Lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	led := make(chan error, 1)
	go func() {
		_, err := other.Lead(ctx)
		led <- err
	}()
	candidates := func(n int64) func() bool {
		return func() bool {
			got, err := leader.client.Get(t.Context(), DefaultPrefix+keyLeader+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
			return err == nil && got.Count == n
		}
	}
	waitFor(t, "the stand-by to queue up", candidates(2))
	cancel()
	if err := <-led; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	waitFor(t, "the stand-by to leave the queue", candidates(1))
}

func TestCloseHandsLeadershipOverAtOnce(t *testing.T) {
	endpoint := start(t)
	cfg := on(endpoint)
	cfg.StandBy, cfg.TTL = true, time.Hour
	first, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Lead(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := open(t, cfg).Lead(ctx); err != nil {
		t.Fatal(err)
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("gave up waiting for " + what)
		}
	}
}

func TestALargeCommitIsSplitAndPagesAreReadTogether(t *testing.T) {
	l := open(t, on(start(t)))
	var writes []record.Write
	const n = 700
	for i := range int32(n) {
		writes = append(writes, put(instance("u1", i)), put(lease("u1", i)))
	}
	if err := l.Commit(t.Context(), writes); err != nil {
		t.Fatal(err)
	}
	for _, page := range []int64{1, 7, 1000} {
		s, err := l.load(t.Context(), page)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Instances) != n || len(s.Leases) != n {
			t.Errorf("with pages of %d: %d instances, %d leases", page, len(s.Instances), len(s.Leases))
		}
		if !slices.IsSortedFunc(s.Instances, func(a, b *padisv1.InstanceRecord) int { return int(a.GetSlot() - b.GetSlot()) }) {
			t.Errorf("with pages of %d the instances are not in the order of their keys", page)
		}
	}
}

func TestLargeRecordsAreSplitBySize(t *testing.T) {
	l := open(t, on(start(t)))
	var writes []record.Write
	for i := range 4 {
		writes = append(writes, put(&padisv1.WantedApp{Uid: fmt.Sprint(i), Name: strings.Repeat("x", 900_000)}))
	}
	if err := l.Commit(t.Context(), writes); err != nil {
		t.Fatal(err)
	}
	if s := load(t, l); len(s.Apps) != 4 {
		t.Errorf("%d Apps", len(s.Apps))
	}
	err := l.Commit(t.Context(), []record.Write{put(&padisv1.WantedApp{Uid: "u", Name: strings.Repeat("x", padisv1.MaxSize)})})
	if err == nil || !strings.Contains(err.Error(), "app/u") {
		t.Errorf("a record that is too large: %v", err)
	}
}

func TestOneMomentIsReadAlthoughEtcdCompacts(t *testing.T) {
	l := open(t, on(start(t)))
	if err := l.Commit(t.Context(), one()); err != nil {
		t.Fatal(err)
	}
	got, err := l.client.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.client.Compact(t.Context(), got.Header.Revision); err != nil {
		t.Fatal(err)
	}
	if s := load(t, l); len(s.Instances) != 1 {
		t.Errorf("loaded %+v", s)
	}
}

func TestTheLastWriteOfAKeyCounts(t *testing.T) {
	l := open(t, on(start(t)))
	a, b := instance("u1", 0), instance("u1", 0)
	b.Attempt = 2
	if err := l.Commit(t.Context(), []record.Write{put(a), drop(a), put(b)}); err != nil {
		t.Fatal(err)
	}
	if s := load(t, l); len(s.Instances) != 1 || s.Instances[0].GetAttempt() != 2 {
		t.Errorf("loaded %v", s.Instances)
	}
	if err := l.Commit(t.Context(), nil); err != nil {
		t.Errorf("nothing to write: %v", err)
	}
}

func TestACorruptValueIsNamedWithItsRemedy(t *testing.T) {
	l := open(t, on(start(t)))
	good, err := encode("app/u1", &padisv1.WantedApp{Uid: "u1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ key, value string }{
		"empty":           {"app/u1", ""},
		"unknown format":  {"app/u1", "\x02" + good[1:]},
		"not protobuf":    {"app/u1", "\x01\xff\xff"},
		"of another key":  {"app/u2", good},
		"of another kind": {"lease/lan/10.0.0.1", good},
		"unknown kind":    {"volume/x", good},
	} {
		t.Run(name, func(t *testing.T) {
			key := l.cfg.Prefix + c.key
			if _, err := l.client.Put(t.Context(), key, c.value); err != nil {
				t.Fatal(err)
			}
			_, err := l.Load(t.Context())
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "delete the key") {
				t.Errorf("got %v", err)
			}
			if _, err := l.client.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		})
	}
	if _, err := l.client.Put(t.Context(), l.cfg.Prefix+keyEpoch, "soon"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), l.cfg); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), keyEpoch) {
		t.Errorf("a corrupt epoch: %v", err)
	}
}

func TestARecordIsWrittenUnderItsOwnKeyOnly(t *testing.T) {
	l := open(t, on(start(t)))
	for _, w := range []record.Write{
		{Key: "instance/u1/00001", Value: instance("u1", 0)},
		{Key: "volume/1", Value: &padisv1.Template{}},
		{Key: "volume/1"},
		{Key: "epoch"},
	} {
		if err := l.Commit(t.Context(), []record.Write{w}); err == nil {
			t.Errorf("%s was written", w.Key)
		}
	}
}

func TestCommitWaitsForEtcdAsLongAsItMay(t *testing.T) {
	dir := t.TempDir()
	endpoint, stop := etcd(t, dir)
	l := open(t, on(endpoint))
	stop()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := l.Commit(ctx, one()); err == nil {
		t.Fatal("written without etcd")
	}
	done := make(chan error, 1)
	go func() { done <- l.Commit(t.Context(), one()) }()
	_, stop = etcd(t, dir)
	t.Cleanup(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s := load(t, l); len(s.Instances) != 1 {
		t.Errorf("loaded %+v", s)
	}
}

func TestTooManyOperationsAreRefusedWithTheRemedy(t *testing.T) {
	cfg := on(start(t))
	cfg.MaxTxnOps = 1000
	l := open(t, cfg)
	var writes []record.Write
	for i := range int32(129) {
		writes = append(writes, put(instance("u1", i)))
	}
	if err := l.Commit(t.Context(), writes); err == nil || !strings.Contains(err.Error(), "--max-txn-ops") {
		t.Errorf("got %v", err)
	}
}

func TestBadConfigurationIsRefused(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for want, cfg := range map[string]Config{
		"no etcd endpoint":      {},
		"must end in a slash":   {Endpoints: []string{"unix:///x"}, Prefix: "/padis"},
		"certificate needs its": {Endpoints: []string{"unix:///x"}, CertFile: "c"},
		"must be positive":      {Endpoints: []string{"unix:///x"}, TTL: -1},
		"certificate authority": {Endpoints: []string{"unix:///x"}, CAFile: missing},
		"client certificate":    {Endpoints: []string{"unix:///x"}, CertFile: missing, KeyFile: missing},
		"does not answer":       {Endpoints: []string{"unix://" + missing}, DialTimeout: 100 * time.Millisecond},
	} {
		if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
