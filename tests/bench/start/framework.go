package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/mesos"
	"padis.io/padis/mesos/local"
	"padis.io/padis/mesos/local/agent"
	mesosmaster "padis.io/padis/mesos/local/master"
	"padis.io/padis/mesos/master"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const executorID = "padis-bench"

// framework is a Mesos of one agent, and a scheduler that does what it is told.
type framework struct {
	cluster *local.Cluster
	client  *master.Client
	command string
	end     func()

	mu sync.Mutex
	// changed is closed, and replaced, when something of the below changes.
	changed  chan struct{}
	offers   []mesos.Offer
	last     map[string]seen
	executor *padisv1.FromExecutor
	agent    string
	// reserved is what the executor has. Mesos wants it in each launch, the same each time.
	reserved []mesos.Resource
}

// seen is the newest status of a task, and when it came.
type seen struct {
	mesos.Status
	at time.Time
}

func newFramework(dir, command string, environment map[string]string) (*framework, error) {
	cluster, err := local.Start(local.Config{
		Dir: filepath.Join(dir, "mesos"),
		// Offers come at once, so that what is measured is the executor.
		Master: mesosmaster.Config{AllocationInterval: 5 * time.Millisecond},
		Agents: []agent.Config{{Hostname: "127.0.0.1", Resources: "cpus:1000;mem:1000000;disk:1000000", ExecutorEnvironment: environment}},
	})
	if err != nil {
		return nil, err
	}
	f := &framework{cluster: cluster, command: command, changed: make(chan struct{}), last: map[string]seen{}}
	f.client, err = master.New(master.Config{
		Masters: cluster.MasterURL(), Framework: master.Framework{Name: "bench", FailoverTimeout: time.Hour}, Logger: zap.NewNop(), Rand: rand.Float64,
	})
	if err != nil {
		cluster.Stop()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.client.Run(ctx, "", f.handle) // that it was ended
	}()
	f.end = func() { cancel(); <-done }
	return f, nil
}

// stop ends the executor with its containers, then Mesos.
func (f *framework) stop() {
	f.cluster.Shutdown()
	f.end()
}

func (f *framework) handle(e mesos.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e := e.(type) {
	case mesos.Offers:
		f.offers = append(f.offers, e.Offers...)
	case mesos.Rescind:
		f.offers = slices.DeleteFunc(f.offers, func(o mesos.Offer) bool { return o.ID == e.OfferID })
	case mesos.FromExecutor:
		said := &padisv1.FromExecutor{}
		if padisv1.Decode(e.Data, said) == nil {
			f.executor = said
		}
	case mesos.Update:
		f.last[e.Status.TaskID] = seen{e.Status, time.Now()}
		if len(e.Status.UUID) > 0 {
			go func() {
				_ = f.client.Send(context.Background(), mesos.Acknowledge{AgentID: e.Status.AgentID, TaskID: e.Status.TaskID, UUID: e.Status.UUID})
			}()
		}
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// until waits for a condition of the fields that mu guards.
func (f *framework) until(ctx context.Context, what string, condition func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		f.mu.Lock()
		met, err := condition()
		changed := f.changed
		f.mu.Unlock()
		if met || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		}
	}
}

// offer takes all that is offered at the moment; all of it is of the one agent.
func (f *framework) offer(ctx context.Context) (taken []mesos.Offer, err error) {
	err = f.until(ctx, "an offer", func() (bool, error) {
		if len(f.offers) == 0 {
			return false, nil
		}
		taken, f.offers = f.offers, nil
		f.agent = taken[0].AgentID
		return true, nil
	})
	return taken, err
}

// launch accepts offers with tasks.
func (f *framework) launch(ctx context.Context, offers []mesos.Offer, launches map[string]*padisv1.Launch) error {
	accept := mesos.Accept{}
	var rest []mesos.Resource
	for _, o := range offers {
		accept.OfferIDs, rest = append(accept.OfferIDs, o.ID), append(rest, o.Resources...)
	}
	take := func() ([]mesos.Resource, error) {
		taken, left, ok := mesos.Carve(rest, mesos.Amounts{CPUMilli: 100, MemoryMilli: 10_000})
		if !ok {
			return nil, fmt.Errorf("offers %v are too small", accept.OfferIDs)
		}
		rest = left
		return taken, nil
	}
	if f.reserved == nil {
		var err error
		if f.reserved, err = take(); err != nil {
			return err
		}
	}
	executor := mesos.Executor{ID: executorID, Name: "padis", Command: f.command, Resources: f.reserved}
	for id, l := range launches {
		data, err := padisv1.Encode(l)
		if err != nil {
			return err
		}
		resources, err := take()
		if err != nil {
			return err
		}
		accept.Tasks = append(accept.Tasks, mesos.Task{ID: id, Name: id, AgentID: f.agent, Resources: resources, Executor: executor, Data: data})
	}
	return f.client.Send(ctx, accept)
}

// reached is how far a task has come; an error if it has ended without being killed.
func (f *framework) reached(task string) (mesos.TaskState, error) {
	s := f.last[task]
	if s.State.Terminal() && s.State != mesos.TaskKilled {
		return s.State, fmt.Errorf("task %s: %s %s %s", task, s.State, s.Reason, s.Message)
	}
	return s.State, nil
}

// running waits until tasks run.
func (f *framework) running(ctx context.Context, tasks ...string) error {
	return f.until(ctx, "tasks to run", func() (bool, error) {
		for _, t := range tasks {
			if state, err := f.reached(t); err != nil || state != mesos.TaskRunning {
				return false, err
			}
		}
		return true, nil
	})
}

// kill ends tasks and waits until they have.
func (f *framework) kill(ctx context.Context, tasks ...string) error {
	for _, t := range tasks {
		if err := f.client.Send(ctx, mesos.Kill{TaskID: t, AgentID: f.agent}); err != nil {
			return err
		}
	}
	return f.until(ctx, "tasks to end", func() (bool, error) {
		for _, t := range tasks {
			if state, err := f.reached(t); err != nil || state != mesos.TaskKilled {
				return false, err
			}
		}
		return true, nil
	})
}

// tell says what the executor shall know, again and again until it does, and returns what it said last.
func (f *framework) tell(ctx context.Context, wish *padisv1.ToExecutor) (*padisv1.FromExecutor, error) {
	data, err := padisv1.Encode(wish)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if err := f.client.Send(ctx, mesos.ToExecutor{AgentID: f.agent, ExecutorID: executorID, Data: data}); err != nil {
			return nil, err
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		var answer *padisv1.FromExecutor
		err := f.until(short, "an answer of the executor", func() (bool, error) {
			answer = f.executor
			return answer.GetGeneration() >= wish.GetGeneration(), nil
		})
		cancel()
		if err == nil {
			return answer, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, errors.New("the executor does not answer messages")
}
