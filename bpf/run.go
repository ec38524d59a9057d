package bpf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// pollEvery is how often events are looked for: the kernel tells of them only when a quarter of the buffer is full, as telling costs the toucher more than all the rest.
const pollEvery = 25 * time.Millisecond

// Run calls each for every touch, from one goroutine, until ctx is done. Then it ends the recording and calls each for what had been recorded. It returns nil unless reading
// the events fails, or each returns an error.
func (t *Tracer) Run(ctx context.Context, each func(Touch) error) error {
	var last event
	for ctx.Err() == nil {
		t.reader.SetDeadline(time.Now().Add(pollEvery))
		if err := t.drain(ctx, &last, each); err != nil {
			return err
		}
	}
	if err := t.detach(); err != nil {
		return fmt.Errorf("end the recording: %w", err)
	}
	t.reader.SetDeadline(time.Now().Add(pollEvery))
	return t.drain(context.WithoutCancel(ctx), &last, each)
}

// event is one as it was read, and what it says.
type event struct {
	record ringbuf.Record
	touch  Touch
}

// drain reads events until the reader's deadline has passed and none is left, or ctx is done: while events come faster than they are taken, there is always one left.
func (t *Tracer) drain(ctx context.Context, last *event, each func(Touch) error) error {
	for ctx.Err() == nil {
		err := t.reader.ReadInto(&last.record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		if last.touch, err = decode(last.record.RawSample, last.touch.Comm); err != nil {
			return err
		}
		if err := each(last.touch); err != nil {
			return err
		}
	}
	return nil
}

// Stats is what a recording lost. Zero everywhere: nothing.
type Stats struct {
	// DroppedPages is how many touches of pages found no room for their event, as the reader was too slow. A page that is touched again is reported then.
	DroppedPages uint64
	// Skipped is how often the kernel did not run a program, as it interrupted itself. Each may have lost a touch.
	Skipped uint64
	// Unremembered is how many touches of chunks could not be remembered: their pages were reported each time, nothing is lost.
	Unremembered uint64
	// Unfollowed is how many processes were started by recorded ones and could not be recorded, as there were too many.
	Unfollowed uint64
}

// Lost says whether something that should have been reported may not have been.
func (s Stats) Lost() bool { return s.DroppedPages+s.Skipped+s.Unfollowed > 0 }

// Stats returns what the recording has lost so far.
func (t *Tracer) Stats() (Stats, error) {
	var sums [3]uint64 // "enum counter" in touch.bpf.c
	for i := range sums {
		var perCPU []uint64
		if err := t.coll.Maps["counters"].Lookup(uint32(i), &perCPU); err != nil {
			return Stats{}, fmt.Errorf("read the counters of the recording: %w", err)
		}
		for _, n := range perCPU {
			sums[i] += n
		}
	}
	s := Stats{DroppedPages: sums[0], Unremembered: sums[1], Unfollowed: sums[2]}
	for name, p := range t.coll.Programs {
		stats, err := p.Stats()
		if errors.Is(err, ebpf.ErrNotSupported) {
			continue
		}
		if err != nil {
			return Stats{}, fmt.Errorf("read the counters of %s: %w", name, err)
		}
		s.Skipped += stats.RecursionMisses
	}
	return s, nil
}
