package master_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/mesos"
	"padis.io/padis/mesos/agent"
)

// scripted makes the test binary an executor.
const scripted = "PADIS_SCRIPTED_EXECUTOR"

func TestMain(m *testing.M) {
	if os.Getenv(scripted) != "" {
		if err := execute(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// execute is an executor whose tasks are words: a task is RUNNING as soon as it is launched, unless its data is
// "silent". A message "STATE TASK [DELAY]" makes it say that the task is in that state now, or after the delay; it
// answers every message with its process id and the message.
func execute() error {
	cfg, err := agent.FromEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	cfg.Logger, cfg.Rand = zap.NewNop(), rand.Float64
	client, err := agent.New(cfg)
	if err != nil {
		return err
	}
	ctx, exit := context.WithCancel(context.Background())
	defer exit()
	err = client.Run(ctx, func(e mesos.ExecutorEvent) {
		switch e := e.(type) {
		case mesos.LaunchTask:
			dir := filepath.Join(cfg.Sandbox, "tasks", e.Task.ID)
			if err := os.MkdirAll(dir, 0o755); err == nil {
				os.WriteFile(filepath.Join(dir, "stdout"), []byte("hello from "+e.Task.ID+"\n"), 0o644)
			}
			if string(e.Task.Data) != "silent" {
				client.Update(mesos.Status{TaskID: e.Task.ID, State: mesos.TaskRunning, Data: e.Task.Data})
			}
		case mesos.KillTask:
			client.Update(mesos.Status{TaskID: e.TaskID, State: mesos.TaskKilling})
			client.Update(mesos.Status{TaskID: e.TaskID, State: mesos.TaskKilled})
		case mesos.FromScheduler:
			if words := strings.Fields(string(e.Data)); len(words) >= 2 {
				say := func() { client.Update(mesos.Status{TaskID: words[1], State: mesos.TaskState(words[0])}) }
				if len(words) > 2 {
					delay, err := time.ParseDuration(words[2])
					if err != nil {
						return
					}
					time.AfterFunc(delay, say)
				} else {
					say()
				}
			}
			client.Message(fmt.Appendf(nil, "%d: %s", os.Getpid(), e.Data))
		case mesos.Shutdown:
			exit()
		}
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
