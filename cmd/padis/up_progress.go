package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"padis.io/padis/api/why"
)

// progress prints a line for each thing that happens, with the time since the beginning.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	paint func(why.Tone, string) string
	began time.Time
	quiet bool
}

func newProgress(w io.Writer, quiet bool) *progress {
	return &progress{w: w, paint: painter(w), began: time.Now(), quiet: quiet}
}

// say prints that something happened to a part. Bad news are printed even when quiet.
func (p *progress) say(tone why.Tone, part, text string) {
	if p.quiet && tone != why.Bad {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	elapsed := p.paint(why.Dim, fmt.Sprintf("%7.2fs", time.Since(p.began).Seconds()))
	// The terminal may be gone; that must not end what runs.
	_, _ = fmt.Fprintf(p.w, "%s  %-13s %s\n", elapsed, part, p.paint(tone, text))
}

// print prints text as it is.
func (p *progress) print(text string) {
	if p.quiet {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.w, text)
}
