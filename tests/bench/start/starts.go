package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	mb = 1e6
	// atATime is how many starts manyStarts has under way.
	atATime = 16
	settle  = 10 * time.Second
)

// forever is what an idle container runs.
var forever = []string{"sleep", "86400"}

// addresses that were given out; each instance has one of its own, so that nobody waits for another to go.
var addresses int

// instance is a container with an address.
func instance(image string, command []string) *padisv1.Launch {
	addresses++
	return &padisv1.Launch{
		Namespace: "bench", App: "bench", AppUid: "bench", Slot: int32(addresses), Attempt: 1, DnsServers: []string{"10.44.0.1"},
		Template: &padisv1.Template{
			Image: image, Command: command, Stop: &padisv1.Stop{Signal: "SIGKILL", GracePeriodMs: 1000},
			Resources: &padisv1.Resources{CpuMilli: 1000, MemoryMib: 256},
			Logs:      &padisv1.LogPolicy{MaxBytes: 64 << 20, MaxFiles: 1000},
		},
		Attachments: []*padisv1.Attachment{{
			Network: &padisv1.Network{Name: "lan", Bridge: "padis0", Parent: "eth1"}, Pool: "lan",
			Address: fmt.Sprintf("10.44.%d.%d", 1+addresses/250, 1+addresses%250), PrefixLength: 16, Gateway: "10.44.0.1",
		}},
	}
}

// starts compares single starts: `ctr run -d`, which gives a container no network, with a launch until Mesos says
// TASK_RUNNING, with network, limits, security and logs. They take turns, so that both meet the same machine.
func starts(ctx context.Context, m *machine, o options) ([]figure, error) {
	var alone, whole []float64
	for n := range o.runs + 1 {
		a, err := m.startByCtr(ctx, fmt.Sprintf("ctr-%d", n))
		if err != nil {
			return nil, err
		}
		w, err := m.startByPadis(ctx, fmt.Sprintf("single-%d", n))
		if err != nil {
			return nil, err
		}
		if n == 0 {
			// The first start of each reads the image from the disk, and starts the executor.
			continue
		}
		fmt.Printf("run %2d: ctr %.0f ms, padis %.0f ms\n", n, a.Seconds()*1000, w.Seconds()*1000)
		alone, whole = append(alone, a.Seconds()*1000), append(whole, w.Seconds()*1000)
	}
	return []figure{
		{"ctr_start_ms", "ms", median(alone)},
		{"start_ms", "ms", median(whole)},
		{"start_ratio_to_ctr", "ratio", median(whole) / median(alone)},
	}, nil
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func (m *machine) startByCtr(ctx context.Context, id string) (time.Duration, error) {
	began := time.Now()
	if err := ctr(ctx, others, append([]string{"run", "-d", "--cgroup", filepath.Join(m.cgroup, id), shell, id}, forever...)...); err != nil {
		return 0, err
	}
	took := time.Since(began)
	if err := ctr(ctx, others, "task", "delete", "--force", id); err != nil {
		return 0, err
	}
	return took, ctr(ctx, others, "container", "delete", id)
}

func (m *machine) startByPadis(ctx context.Context, id string) (time.Duration, error) {
	offer, err := m.offer(ctx)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := m.launch(ctx, offer, map[string]*padisv1.Launch{id: instance(shell, forever)}); err != nil {
		return 0, err
	}
	if err := m.running(ctx, id); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, m.kill(ctx, id)
}

// manyStarts measures how many containers start in a second when there are always 16 on their way.
func manyStarts(ctx context.Context, m *machine, o options) ([]figure, error) {
	began := time.Now()
	tasks, err := m.startMany(ctx, "many", o.starts)
	if err != nil {
		return nil, err
	}
	took := time.Since(began).Seconds()
	fmt.Printf("%d starts, %d at a time: %.2f s\n", len(tasks), atATime, took)
	return []figure{{"starts_per_second_16way", "1/s", float64(len(tasks)) / took}}, m.kill(ctx, tasks...)
}

// startMany starts n containers, 16 at a time, and returns their tasks when all run.
func (m *machine) startMany(ctx context.Context, name string, n int) (tasks []string, err error) {
	var underWay []string
	for len(tasks) < n {
		if underWay, err = m.room(ctx, underWay); err != nil {
			return nil, err
		}
		offer, err := m.offer(ctx)
		if err != nil {
			return nil, err
		}
		launches := map[string]*padisv1.Launch{}
		for len(underWay) < atATime && len(tasks) < n {
			id := fmt.Sprintf("%s-%d", name, len(tasks))
			launches[id] = instance(shell, forever)
			underWay, tasks = append(underWay, id), append(tasks, id)
		}
		if err := m.launch(ctx, offer, launches); err != nil {
			return nil, err
		}
	}
	return tasks, m.running(ctx, underWay...)
}

// room waits until fewer than 16 tasks are on their way, and returns those.
func (m *machine) room(ctx context.Context, underWay []string) ([]string, error) {
	var left []string
	err := m.until(ctx, "room for more starts", func() (bool, error) {
		left = nil
		for _, t := range underWay {
			state, err := m.reached(t)
			if err != nil {
				return false, err
			}
			if state != mesos.TaskRunning {
				left = append(left, t)
			}
		}
		return len(left) < atATime, nil
	})
	return left, err
}

// idle measures the executor's memory while containers run that do nothing.
func idle(ctx context.Context, m *machine, o options) ([]figure, error) {
	tasks, err := m.startMany(ctx, "idle", o.idle)
	if err != nil {
		return nil, err
	}
	time.Sleep(settle)
	rss, err := m.executorRSS()
	if err != nil {
		return nil, err
	}
	return []figure{{fmt.Sprintf("executor_%d_containers_rss_mb", o.idle), "MB", float64(rss) / mb}}, m.kill(ctx, tasks...)
}
