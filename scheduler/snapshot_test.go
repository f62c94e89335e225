package scheduler

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"padis.io/padis/mesos"
)

// A snapshot waits until what is decided is durable, shows what was asked for before it, and is none of a loop that has ended.
func TestSnapshotsAreDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r := newLoop(t, Config{})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		if err := l.Deliver(ctx, mesos.Subscribed{FrameworkID: "F"}); err != nil {
			t.Fatal(err)
		}
		if err := l.Want(ctx, app()); err != nil {
			t.Fatal(err)
		}
		s, err := l.Snapshot(ctx)
		if err != nil || !s.Connected || len(s.Records.Apps) != 1 || len(s.Records.Instances) != 1 || s.Records.Framework.GetFrameworkId() != "F" {
			t.Fatalf("%+v, %v", s, err)
		}
		synctest.Wait()
		r.commits = 2
		begun := time.Now()
		second := app()
		second.Uid, second.Name = "uid2", "api"
		if err := l.Want(ctx, second); !errors.Is(err, errTape) {
			t.Fatal(err)
		}
		s, err = l.Snapshot(ctx)
		if err != nil || len(s.Records.Apps) != 2 || time.Since(begun) < retryPause {
			t.Fatalf("%d apps after %s, %v", len(s.Records.Apps), time.Since(begun), err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if _, err := l.Snapshot(context.Background()); !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
	})
}
