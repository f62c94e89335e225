package child

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// The test binary is the executor's binary, too. Its child tells what it was told, and ends as it is told.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "echo" {
		os.Exit(echo(os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// order is a list of words; status is those that the child has.
type status struct {
	PID   int      `json:"pid"`
	Words []string `json:"words"`
}

func echo(in io.Reader, out io.Writer) int {
	orders, over := Orders[[]string](in)
	s := status{PID: os.Getpid()}
	for {
		select {
		case o := <-orders:
			s.Words = append(s.Words, o.Body...)
			if slices.Contains(o.Body, "die") {
				return 7
			}
			if err := Tell(out, o.Generation, s); err != nil {
				return 1
			}
		case err := <-over:
			if err != nil {
				return 1
			}
			return 0
		}
	}
}

func start(t *testing.T, exe string) (*Keeper[[]string, status], context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	k := Keep(ctx, Job[[]string, status]{Exe: exe, Verb: "echo", Without: "nobody echoes", Log: zap.NewNop(),
		Idle: func(o []string) bool { return len(o) == 0 },
		Trim: func(o, before []string) []string { return o[min(len(before), len(o)):] },
	})
	end := func() { cancel(); <-k.Done() }
	t.Cleanup(end)
	return k, end
}

func (k *Keeper[O, S]) wait(t *testing.T, generation uint64) S {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := k.Wait(ctx, generation); err != nil {
		t.Fatal(err)
	}
	_, s, _ := k.State()
	return s
}

func gone(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return errors.Is(err, os.ErrNotExist)
}

// A child is told what is new only, the next one all; one without work ends; none outlives its keeper.
func TestOrdersSurviveChildren(t *testing.T) {
	k, end := start(t, "/proc/self/exe")
	if s := k.wait(t, k.Set(nil)); s.PID != 0 {
		t.Errorf("a child without work: %+v", s)
	}
	k.wait(t, k.Set([]string{"a"}))
	first := k.wait(t, k.Set([]string{"a", "b"}))
	if !slices.Equal(first.Words, []string{"a", "b"}) {
		t.Errorf("%+v", first)
	}
	k.Set([]string{"a", "b", "die"})
	for deadline := time.Now().Add(time.Minute); ; {
		<-k.Changed()
		if _, _, failed := k.State(); strings.Contains(failed, "exit status 7") && strings.HasSuffix(failed, "nobody echoes") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("its end is not told")
		}
	}
	second := k.wait(t, k.Set([]string{"x", "y"}))
	if !slices.Equal(second.Words, []string{"x", "y"}) || second.PID == first.PID || !gone(first.PID) {
		t.Errorf("%+v", second)
	}
	k.wait(t, k.Set(nil))
	for deadline := time.Now().Add(time.Minute); !gone(second.PID); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a child without work goes on")
		}
	}
	third := k.wait(t, k.Set([]string{"z"}))
	end()
	if !gone(third.PID) {
		t.Error("a child outlives its keeper")
	}
}

func TestChildThatCannotStart(t *testing.T) {
	k, _ := start(t, "/nonexistent/padis-executor")
	g := k.Set([]string{"a"})
	for range k.Changed() {
		if _, _, failed := k.State(); strings.Contains(failed, "no such file") {
			break
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := k.Wait(ctx, g); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "nobody echoes") {
		t.Error(err)
	}
}

func TestFramesAreBounded(t *testing.T) {
	if err := write(io.Discard, strings.Repeat("x", MaxFrame)); err == nil {
		t.Error("wrote too long a frame")
	}
	long := binary.BigEndian.AppendUint32(nil, MaxFrame+1)
	if err := read(bytes.NewReader(long), &Frame[string]{}); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Error(err)
	}
	if err := read(bytes.NewReader([]byte{0, 0, 0, 9, '{'}), &Frame[string]{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	if err := read(bytes.NewReader(nil), &Frame[string]{}); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func FuzzFrame(f *testing.F) {
	var b bytes.Buffer
	_ = write(&b, Frame[status]{7, status{1, []string{"a"}}})
	f.Add(b.Bytes())
	f.Add([]byte{0, 0, 0, 2, '{', '}', 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			var o Frame[status]
			if err := read(r, &o); err != nil {
				return
			}
			var back bytes.Buffer
			if err := write(&back, o); err != nil {
				t.Fatal(err)
			}
		}
	})
}
