package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
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
	large := filepath.Join(mnt, "bin", "go")
	byFrame := func() error { return readAgain(large, 128<<10, 8<<20, 1<<14) }
	onePage := func() error { return readAgain(large, 4<<10, 4<<10, 1<<18) }
	for _, w := range []struct {
		name  string
		limit float64 // 0: reported only
		cold  bool
		open  func(context.Context) (probes, error)
		read  func() error
	}{
		{"probes on, reading all files, cold", 1.02, true, openProbes, all},
		{"probes on, reading all files, cached", 1.02, false, openProbes, all},
		{"probes on, reading a cached file by 128 KiB", 1.02, false, openProbes, byFrame},
		{"the same with a program that does nothing", 0, false, openNothing, byFrame},
		{"probes on, the worst case: one cached page, again and again", 0, false, openProbes, onePage},
		{"the worst case with a program that does nothing", 0, false, openNothing, onePage},
	} {
		b.progress("trace: %s", w.name)
		var with, without []float64
		var how string
		for range 2*b.runs + 1 {
			spent, _, err := traced(ctx, nil, w.cold, w.read)
			if err != nil {
				return results, err
			}
			without = append(without, spent.Seconds())
			if spent, how, err = traced(ctx, w.open, w.cold, w.read); err != nil {
				return results, err
			}
			with = append(with, spent.Seconds())
		}
		// Whatever disturbs, such as somebody else dropping caches, only adds.
		least, base := slices.Min(with), slices.Min(without)
		detail := fmt.Sprintf("× without probes: %.3f s / %.3f s of processor time, the least of %d; %s", least, base, len(with), how)
		r := result{Name: w.name, Value: least / base, Met: true, Detail: detail}
		if w.limit > 0 {
			r = atMost(r.Name, r.Value, w.limit, "", detail)
		}
		results = append(results, r)
	}
	return results, nil
}

// probes are attached until they are closed.
type probes struct {
	how   string
	close func() error
}

// openProbes begins to record everything, and takes the events.
func openProbes(ctx context.Context) (probes, error) {
	tracer, err := bpf.Open(bpf.Options{})
	if err != nil {
		return probes{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- tracer.Run(ctx, func(bpf.Touch) error { return nil }) }()
	return probes{tracer.Variant(), func() error {
		cancel()
		return errors.Join(<-done, tracer.Close())
	}}, nil
}

// openNothing attaches a program that returns at once to where reads are seen: what any probe there costs at least.
func openNothing(context.Context) (probes, error) {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "mm_filemap_get_pages", License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return probes{}, err
	}
	attached, err := link.AttachTracing(link.TracingOptions{Program: program})
	if err != nil {
		return probes{}, errors.Join(err, program.Close())
	}
	return probes{"an empty program", func() error { return errors.Join(attached.Close(), program.Close()) }}, nil
}

// traced is the processor time that reading takes, with probes if open is given, and which they were. Probes are new each time, so that each page is reported.
func traced(ctx context.Context, open func(context.Context) (probes, error), cold bool, read func() error) (spent time.Duration, how string, err error) {
	if cold {
		err = lab.DropCaches()
	} else {
		err = read()
	}
	if err != nil {
		return 0, "", err
	}
	on := probes{close: func() error { return nil }}
	if open != nil {
		if on, err = open(ctx); err != nil {
			return 0, "", err
		}
	}
	runtime.GC() // to load probes leaves much to collect, which is none of their cost
	before, err := processorTime()
	err = errors.Join(err, read())
	after, afterErr := processorTime()
	return after - before, on.how, errors.Join(err, afterErr, on.close())
}

func processorTime() (time.Duration, error) {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano()), err
}

// readAgain does nothing but read so many bytes at once, so many times, from the first span bytes of a file.
func readAgain(path string, bytes, span, times int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data := make([]byte, bytes)
	for i := range times {
		if _, err := f.ReadAt(data, i*bytes%span); err != nil {
			return err
		}
	}
	return nil
}
