package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/bench/inputs"
	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/bpf"
	"github.com/pagein/pagein/internal/kmount"
)

// benchTrace compares reading with and without probes that record who touches what. Processor time of this process, which reads and takes the events, is what is compared: that is all that
// probes cost, and other work on the machine disturbs it least.
func benchTrace(ctx context.Context, b *bench) (_ []result, err error) {
	goroot, err := inputs.Goroot(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "trace-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.UnmountBelow(dir), os.RemoveAll(dir)) }()
	image, mnt := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		return nil, err
	}
	pagein, err := lab.Ours("pagein")
	if err != nil {
		return nil, err
	}
	if _, err := lab.Output(lab.Command(ctx, pagein, "mkfs", "--quiet", image, goroot)); err != nil {
		return nil, err
	}
	if err := kmount.Mount(ctx, kmount.EROFS{Source: image}, mnt); err != nil {
		return nil, err
	}
	all := func() error { _, err := readAll(ctx, mnt, 1); return err }
	var results []result
	for _, w := range []struct {
		name  string
		limit float64 // 0: reported only
		cold  bool
		read  func() error
	}{
		{"reading all files, cold", 1.02, true, all},
		{"reading all files, cached", 1.02, false, all},
		{"the worst case: one cached page, again and again", 0, false, func() error { return readOnePage(filepath.Join(mnt, "bin", "go")) }},
	} {
		b.progress("trace: %s", w.name)
		var with, without []float64
		var variant string
		for range 2*b.runs + 1 {
			for _, probes := range []bool{false, true} {
				spent, name, err := traced(ctx, probes, w.cold, w.read)
				if err != nil {
					return results, err
				}
				if probes {
					with, variant = append(with, spent.Seconds()), name
				} else {
					without = append(without, spent.Seconds())
				}
			}
		}
		detail := fmt.Sprintf("× without probes: %.3f s / %.3f s of processor time, median of %d; %s", median(with), median(without), len(with), variant)
		r := result{Name: "probes on, " + w.name, Value: median(with) / median(without), Met: true, Detail: detail}
		if w.limit > 0 {
			r = atMost(r.Name, r.Value, w.limit, "", detail)
		}
		results = append(results, r)
	}
	return results, nil
}

// traced is the processor time that reading takes, with or without probes, and which they were. Probes are new each time, so that each page is reported.
func traced(ctx context.Context, probes, cold bool, read func() error) (spent time.Duration, variant string, err error) {
	if cold {
		err = lab.DropCaches()
	} else {
		err = read()
	}
	if err != nil {
		return 0, "", err
	}
	end := func() error { return nil }
	if probes {
		tracer, err := bpf.Open(bpf.Options{})
		if err != nil {
			return 0, "", err
		}
		variant = tracer.Variant()
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- tracer.Run(ctx, func(bpf.Touch) error { return nil }) }()
		end = func() error {
			cancel()
			return errors.Join(<-done, tracer.Close())
		}
	}
	before, err := processorTime()
	err = errors.Join(err, read())
	after, afterErr := processorTime()
	return after - before, variant, errors.Join(err, afterErr, end())
}

func processorTime() (time.Duration, error) {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano()), err
}

// readOnePage does nothing but read(2) of 4 KiB.
func readOnePage(path string) error {
	const times = 1 << 20
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	page := make([]byte, 4096)
	for range times {
		if _, err := f.ReadAt(page, 0); err != nil {
			return err
		}
	}
	return nil
}
