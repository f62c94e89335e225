package lbchurn

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Program lets a command use what is made for tests: it runs f, and returns its error, or what f gave up with.
func Program(f func(t testing.TB) error) (err error) {
	p := &program{}
	defer func() {
		if r := recover(); r != nil && r != errGivenUp {
			panic(r)
		}
		for i := len(p.cleanups) - 1; i >= 0; i-- {
			p.cleanups[i]()
		}
		err = errors.Join(append(p.errs, err)...)
	}()
	return f(p)
}

// program is the part of a test that labs use.
type program struct {
	testing.TB
	cleanups []func()
	errs     []error
}

var errGivenUp = errors.New("given up")

func (p *program) Helper()                      {}
func (p *program) Cleanup(f func())             { p.cleanups = append(p.cleanups, f) }
func (p *program) Errorf(f string, args ...any) { p.errs = append(p.errs, fmt.Errorf(f, args...)) }
func (p *program) Fatalf(f string, args ...any) { p.Errorf(f, args...); panic(errGivenUp) }
func (p *program) Fatal(args ...any)            { p.Fatalf("%s", fmt.Sprint(args...)) }
func (p *program) Skip(args ...any)             { p.Fatal(args...) }
func (p *program) TempDir() string {
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Executor is the binary that make build makes.
func Executor() (string, error) {
	dir := os.Getenv("PADIS_BIN")
	if dir == "" {
		_, here, _, _ := runtime.Caller(0)
		dir = filepath.Join(filepath.Dir(here), "..", "..", "bin")
	}
	path := filepath.Join(dir, "padis-executor")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: run make build, or name its directory in PADIS_BIN", err)
	}
	return path, nil
}

// First asks the machine to run this process, and what it starts from now on, before others: what is measured are the directors,
// not what else runs. It comes first in main.
func First() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, -10); err != nil {
			return fmt.Errorf("priority: %w", err)
		}
	}
	return nil
}
