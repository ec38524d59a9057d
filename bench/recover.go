package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pagein/pagein/bench/lab"
)

const (
	recoverReaders = 16
	recoverKills   = 100
	// quiet is how long no reader must have had an answer before the daemon is started again: then all of them wait, and who gets one has it from the new daemon.
	quiet = 5 * time.Millisecond
	// recoverLimit is how long readers may have to wait before that is an error.
	recoverLimit = 30 * time.Second
)

// benchRecover kills the daemon again and again under readers that verify what they get, starts it at once, and reports how long it takes until the first of them
// has its bytes, how long each of them waited, and the daemon's memory. Each read asks the daemon, since pages are dropped and the blob is never complete; at
// the beginning nothing is here.
func benchRecover(ctx context.Context, b *bench) (_ []result, err error) {
	dir, err := os.MkdirTemp(b.dir, "recover-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.UnmountBelow(dir), os.RemoveAll(dir)) }()
	source, mnt := filepath.Join(dir, "source"), filepath.Join(dir, "mnt")
	if err := errors.Join(os.Mkdir(source, 0o755), os.Mkdir(mnt, 0o755)); err != nil {
		return nil, err
	}
	data, err := localSource(source)
	if err != nil {
		return nil, err
	}
	node, unmount, err := mountLazily(ctx, dir, "dir:"+source, mnt)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	b.progress("recover: killing the daemon %d times under %d readers", recoverKills, recoverReaders)
	w, err := startWatched(filepath.Join(mnt, localFile), data, recoverReaders)
	if err != nil {
		return nil, err
	}
	took, err := killAndRestart(ctx, node, w)
	verified, endErr := w.stop()
	if err := errors.Join(err, endErr); err != nil {
		return nil, fmt.Errorf("%w\npageind's log ends:\n%s", err, node.Log())
	}
	detail := fmt.Sprintf("%d kills under %d readers of 4 KiB at random; %.1f million ranges verified, 0 wrong", recoverKills, recoverReaders, float64(verified)/1e6)
	return []result{
		atMost("from the start of pageind after kill -9 to the first answer, p50", percentile(took.serving, 50), 100, "ms", detail),
		atMost("the same, p99", percentile(took.serving, 99), 100, "ms", fmt.Sprintf("longest %.1f ms", slices.Max(took.serving))),
		{Name: "pause of a reader at kill -9, p50", Value: percentile(took.pauses, 50), Unit: "ms", Detail: fmt.Sprintf("the daemon is started again %v after the last answer", quiet)},
		{Name: "the same, p99", Value: percentile(took.pauses, 99), Unit: "ms", Detail: fmt.Sprintf("of %d; longest %.1f ms", len(took.pauses), slices.Max(took.pauses))},
		atMost("resident memory of pageind under that, highest", took.peak/(1<<20), 100, "MiB", "of all its lives"),
	}, nil
}

// recovery is what kills cost. Times are in ms.
type recovery struct {
	serving []float64 // from each start to the first answer
	pauses  []float64 // of each reader at each kill
	peak    float64   // bytes of memory
}

// killAndRestart does that recoverKills times.
func killAndRestart(ctx context.Context, node *lab.Node, w *watched) (r recovery, err error) {
	random := rand.New(rand.NewPCG(11, 12))
	for range recoverKills {
		if err := sleep(ctx, 20*time.Millisecond+time.Duration(random.Int64N(int64(60*time.Millisecond)))); err != nil {
			return r, err
		}
		peak, err := node.PeakMemory()
		if err != nil {
			return r, err
		}
		r.peak = max(r.peak, float64(peak))
		killed, err := node.Crash()
		if err != nil {
			return r, err
		}
		if err := w.await(ctx, recoverLimit, func() bool { return w.quietFor(quiet) }); err != nil {
			return r, err
		}
		w.expect()
		started, err := node.Restart(ctx)
		if err != nil {
			return r, err
		}
		var reads []span
		if err := w.await(ctx, recoverLimit, func() (all bool) { reads, all = w.answered(); return all }); err != nil {
			return r, fmt.Errorf("readers wait for the new daemon: %w", err)
		}
		first := recoverLimit
		for _, read := range reads {
			first = min(first, read.end.Sub(started))
			r.pauses = append(r.pauses, milli(read.end.Sub(later(read.begin, killed))))
		}
		r.serving = append(r.serving, milli(first))
	}
	return r, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func milli(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// sleep waits that long, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// percentile returns the value that p percent of the values do not exceed.
func percentile(values []float64, p int) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}
