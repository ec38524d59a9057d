package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pagein/pagein/bench/lab"
)

// benchStartup takes its numbers from the demo, which says what it compares.
func benchStartup(ctx context.Context, b *bench) ([]result, error) {
	demo, err := lab.Ours("demo")
	if err != nil {
		return nil, err
	}
	runs := min(b.runs, 3) // each is half a minute
	b.progress("startup: the demo, %d runs", runs)
	out, err := lab.Output(lab.Command(ctx, demo, "--json", "--runs", fmt.Sprint(runs)))
	if err != nil {
		return nil, err
	}
	var report struct {
		Transport   string
		ReadyRatio  float64
		OutputRatio float64
		FullPull    struct{ Ready, Output float64 }
		Lazy        struct{ Ready, Output float64 }
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return nil, fmt.Errorf("read the demo's result: %w", err)
	}
	detail := func(lazy, full float64) string {
		return fmt.Sprintf("× full pull and unpack: %.2f s / %.2f s, %s, 200 Mbit/s 10 ms, median of %d", lazy, full, report.Transport, runs)
	}
	return []result{
		atMost("time to ready", report.ReadyRatio, 0.25, "", detail(report.Lazy.Ready, report.FullPull.Ready)),
		atMost("mount and compile", report.OutputRatio, 0.9, "", detail(report.Lazy.Output, report.FullPull.Output)),
	}, nil
}
