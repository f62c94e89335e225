package bed

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"padis.io/padis/api/server"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/ipam"
	"padis.io/padis/scheduler/ledger"
	"padis.io/padis/scheduler/record"
)

// Names of what instances belong to.
const (
	Network, Pool, Space, App, UID = "lan", "web", "shop", "web", "0b7f5e0e-6f0c-4f0f-9d0e-2f6e0c9a4b11"
	Agent, Executor                = "5a1c2f9e-7f55-4d0e-a8e2-9f1d30f2f2c4-S0", "padis-executor"
)

// Store runs the etcd of a control plane, as `padis scheduler` does, on files in dir.
func Store(dir string) (*server.Server, error) {
	return server.New(server.Config{DataDir: dir, ListenAddress: "127.0.0.1:0", Logger: zap.NewNop()})
}

// Control is the control plane's part of an attach: an address is chosen and made durable together with its instance.
// What several ask for at the same time is one commit, as in a turn of the scheduler's loop.
type Control struct {
	book   *ipam.Book
	ledger *ledger.Ledger
	now    func() int64
	asks   chan ask
	done   chan struct{}
}

// ask is a wish for a turn. decide tells what to write.
type ask struct {
	decide func() ([]record.Write, error)
	done   chan error
}

// NewControl goes on with what the ledger holds; now is in Unix milliseconds.
func NewControl(cluster *padisv1.Cluster, held []*padisv1.LeaseRecord, l *ledger.Ledger, now func() int64) *Control {
	c := &Control{book: ipam.New(cluster, held), ledger: l, now: now, asks: make(chan ask, 64), done: make(chan struct{})}
	go c.run()
	return c
}

// Close waits for the last turn.
func (c *Control) Close() {
	close(c.asks)
	<-c.done
}

func (c *Control) run() {
	defer close(c.done)
	for first := range c.asks {
		turn := []ask{first}
		for more := true; more; {
			select {
			case a, ok := <-c.asks:
				if more = ok; ok {
					turn = append(turn, a)
				}
			default:
				more = false
			}
		}
		c.take(turn)
	}
}

func (c *Control) take(turn []ask) {
	var writes []record.Write
	decided := turn[:0]
	for _, a := range turn {
		w, err := a.decide()
		if err != nil {
			a.done <- err
			continue
		}
		writes, decided = append(writes, w...), append(decided, a)
	}
	err := c.ledger.Commit(context.Background(), writes)
	for _, a := range decided {
		a.done <- err
	}
}

func (c *Control) ask(decide func() ([]record.Write, error)) error {
	a := ask{decide, make(chan error, 1)}
	c.asks <- a
	return <-a.done
}

func slot(index int) record.Slot { return record.Slot{AppUID: UID, Index: int32(index)} }

// Task is the id of an attempt of a slot.
func Task(index int, attempt int64) string {
	return fmt.Sprintf("%s.%s-%d.%s.%d", Space, App, index, UID[:8], attempt)
}

// Lease gives the slot an address for an instance on the host, durably, and returns the launch with it.
func (c *Control) Lease(index int, attempt int64, host string) (*padisv1.Launch, error) {
	l := &padisv1.Launch{Namespace: Space, App: App, Slot: int32(index)}
	err := c.ask(func() ([]record.Write, error) {
		leases, refusal := c.book.Lease(ipam.Want{Slot: slot(index), Namespace: Space, App: App, NowMs: c.now(),
			Networks: []*padisv1.NetworkWish{{Pool: Pool}}})
		if refusal != nil {
			return nil, fmt.Errorf("%s: %s", refusal.Reason, refusal.Message)
		}
		i := &padisv1.InstanceRecord{AppUid: UID, Namespace: Space, App: App, Slot: int32(index), Phase: padisv1.Phase_STAGING, Attempt: attempt,
			TaskId: Task(index, attempt), AgentId: Agent, Hostname: host, ExecutorId: Executor, LaunchedMs: c.now()}
		var writes []record.Write
		if err := c.attachments(l, leases); err != nil {
			return nil, err
		}
		for _, r := range leases {
			i.Addresses = append(i.Addresses, r.GetAddress())
			writes = append(writes, record.Write{Key: record.LeaseKey(r.GetNetwork(), r.GetAddress()), Value: r})
		}
		return append(writes, record.Write{Key: record.InstanceKey(slot(index)), Value: i}), nil
	})
	return l, err
}

// Launch is that of a slot which holds its leases.
func (c *Control) Launch(index int) (*padisv1.Launch, error) {
	l := &padisv1.Launch{Namespace: Space, App: App, Slot: int32(index)}
	err := c.ask(func() ([]record.Write, error) { return nil, c.attachments(l, c.book.Held(slot(index))) })
	return l, err
}

func (c *Control) attachments(l *padisv1.Launch, leases []*padisv1.LeaseRecord) error {
	for _, r := range leases {
		a, ok := c.book.Attachment(r)
		if !ok {
			return fmt.Errorf("%s is of no pool", r.GetAddress())
		}
		l.Attachments = append(l.Attachments, a)
	}
	return nil
}

// Release ends the slot with its lease, durably.
func (c *Control) Release(index int) error {
	return c.ask(func() ([]record.Write, error) {
		writes := []record.Write{{Key: record.InstanceKey(slot(index))}}
		for _, e := range c.book.End(c.now(), c.book.Held(slot(index))...) {
			w := record.Write{Key: record.LeaseKey(e.Lease.GetNetwork(), e.Lease.GetAddress())}
			if e.Cooling != nil {
				w.Value = e.Cooling
			}
			writes = append(writes, w)
		}
		return writes, nil
	})
}

// Cluster declares one network of driver bridge with the uplink eth1, and one pool.
func Cluster(cidr string) *padisv1.Cluster {
	return &padisv1.Cluster{
		Networks: []*padisv1.Network{{Name: Network, Bridge: "padis0", Parent: "eth1"}},
		Pools:    []*padisv1.Pool{{Name: Pool, Network: Network, Cidr: cidr}},
	}
}
