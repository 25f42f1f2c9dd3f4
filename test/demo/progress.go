package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progressInterval is how often a step that takes its time is shown. What is
// faster stays silent.
const progressInterval = 2 * time.Second

// progress shows what is being done, and for how long already.
type progress struct {
	out      io.Writer
	terminal bool // one line that is written over and over
	started  time.Time
	stopped  chan struct{}
	done     chan struct{}

	mu   sync.Mutex
	step string
}

func startProgress(out io.Writer, terminal bool) *progress {
	p := &progress{
		out: out, terminal: terminal, started: time.Now(),
		stopped: make(chan struct{}), done: make(chan struct{}),
	}
	go p.show()
	return p
}

// say names the step that begins now.
func (p *progress) say(step string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step = step
}

// stop ends it, and takes away its line on a terminal.
func (p *progress) stop() {
	close(p.stopped)
	<-p.done
	if p.terminal {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
	}
}

func (p *progress) show() {
	defer close(p.done)
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	for {
		select {
		case <-p.stopped:
			return
		case <-ticker.C:
			p.write()
		}
	}
}

func (p *progress) write() {
	p.mu.Lock()
	defer p.mu.Unlock()
	format := "%3.0f s  %s\n"
	if p.terminal {
		format = "\r\x1b[K%3.0f s  %s …"
	}
	// Nothing depends on it, so a closed stderr does no harm.
	_, _ = fmt.Fprintf(p.out, format, time.Since(p.started).Seconds(), p.step)
}
