package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	writers = 2
	// lineBytes is the length of a line of a writer, its end included.
	lineBytes = 100
)

// filling makes the lines long enough.
var filling = func() (f [lineBytes]byte) {
	for i := range f {
		f[i] = 'a' + byte(i%26)
	}
	f[lineBytes-1] = '\n'
	return f
}()

// line is line number n of every writer: the number, then letters.
func line(buffer []byte, n int64) []byte {
	const digits = 15
	at := len(buffer)
	buffer = append(buffer, filling[:]...)
	for i := at + digits - 1; i >= at; i-- {
		buffer[i] = '0' + byte(n%10)
		n /= 10
	}
	return buffer
}

// write is the program of a writer: so many lines as fast as they are taken, then nothing more.
func write(lines string) {
	n, err := strconv.ParseInt(lines, 10, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	var buffer []byte
	for i := range n {
		buffer = line(buffer[:0], i)
		if _, err := out.Write(buffer); err != nil {
			os.Exit(1)
		}
	}
	if err := out.Flush(); err != nil {
		os.Exit(1)
	}
	for {
		time.Sleep(time.Hour)
	}
}

// output measures how fast the output of two containers is kept, while somebody follows the output of one of them and
// reads slowly; then it reads all that was kept, and fails if a byte is missing.
func output(ctx context.Context, m *machine, o options) ([]figure, error) {
	lines := o.logMB * mb / lineBytes
	self := []string{"/program", writeVerb, strconv.FormatInt(lines, 10)}
	offer, err := m.offer(ctx)
	if err != nil {
		return nil, err
	}
	launches, tasks := map[string]*padisv1.Launch{}, []string{}
	for i := range writers {
		id := fmt.Sprintf("writer-%d", i)
		launches[id], tasks = instance(writer, self), append(tasks, id)
	}
	if err := m.launch(ctx, offer, launches); err != nil {
		return nil, err
	}
	if err := m.running(ctx, tasks...); err != nil {
		return nil, err
	}
	began, first := time.Now(), m.kept(tasks)
	reader, err := m.follow(ctx, tasks[0])
	if err != nil {
		return nil, err
	}
	expected := writers * lines * lineBytes
	if err := m.untilKept(ctx, tasks, expected); err != nil {
		return nil, err
	}
	took := time.Since(began).Seconds()
	read, err := reader.stop()
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		if err := m.verify(t, lines); err != nil {
			return nil, err
		}
	}
	fmt.Printf("%d MB kept in %.2f s, nothing lost; a slow reader got %d kB of it meanwhile\n", expected/mb, took, read/1000)
	return []figure{{"log_mb_per_second", "MB/s", float64(expected-first) / mb / took}}, m.kill(ctx, tasks...)
}

// files are the kept output of a container, newest first.
func (m *machine) files(task string) []string {
	current := filepath.Join(m.state(), "instances", task, "stdout")
	all := []string{current}
	for n := 1; ; n++ {
		older := fmt.Sprintf("%s.%d", current, n)
		if _, err := os.Stat(older); err != nil {
			return all
		}
		all = append(all, older)
	}
}

// kept counts bytes. While a file is being rotated it may be off by one file.
func (m *machine) kept(tasks []string) (sum int64) {
	for _, t := range tasks {
		for _, path := range m.files(t) {
			if info, err := os.Stat(path); err == nil {
				sum += info.Size()
			}
		}
	}
	return sum
}

// untilKept waits until so many bytes are there. It gives up when nothing more comes.
func (m *machine) untilKept(ctx context.Context, tasks []string, expected int64) error {
	const stall = 20 * time.Second
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	most, at := int64(0), time.Now()
	for {
		now := m.kept(tasks)
		if now >= expected {
			return nil
		}
		if now > most {
			most, at = now, time.Now()
		}
		if time.Since(at) > stall {
			return fmt.Errorf("%d bytes of output were kept, of %d; nothing more comes", now, expected)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// verify compares all that was kept of a writer with what it wrote.
func (m *machine) verify(task string, lines int64) error {
	files := m.files(task)
	next := int64(0)
	var want []byte
	buffered := bufio.NewReaderSize(nil, 1<<20)
	got := make([]byte, 0, lineBytes)
	for i := len(files) - 1; i >= 0; i-- {
		f, err := os.Open(files[i])
		if err != nil {
			return err
		}
		buffered.Reset(f)
		// A line may begin in one file and end in the next.
		for {
			have := len(got)
			got = got[:lineBytes]
			n, err := io.ReadFull(buffered, got[have:])
			got = got[:have+n]
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return errors.Join(err, f.Close())
			}
			if len(got) < lineBytes {
				break
			}
			if want = line(want[:0], next); string(got) != string(want) {
				return errors.Join(fmt.Errorf("line %d of %s is %q in %s", next, task, got, files[i]), f.Close())
			}
			got, next = got[:0], next+1
		}
		if err := f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			return err
		}
	}
	if next != lines || len(got) > 0 {
		return fmt.Errorf("%d lines of %s were kept, and %d bytes, of %d lines", next, task, len(got), lines)
	}
	return nil
}
