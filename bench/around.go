package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pagein/pagein/bench/lab"
)

// benchAround draws the curve of reading around misses: what workload W3 takes and fetches when more or less is guessed around the first misses of a region.
func benchAround(ctx context.Context, b *bench) (results []result, err error) {
	dir, err := os.MkdirTemp(b.dir, "around-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ours, _, err := b.contestants(ctx, dir)
	if err != nil {
		return nil, err
	}
	static, err := lab.StartStatic(map[string][]string{ours.name: {ours.image.Dir()}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, static.Stop()) }()
	for _, around := range []string{"none", "256KiB", "512KiB", "1MiB", "2MiB", "8MiB", "32MiB"} {
		config := filepath.Join(dir, around+".toml")
		if err := os.WriteFile(config, fmt.Appendf(nil, "read-around = %q\n", around), 0o600); err != nil {
			return results, err
		}
		ours.seconds, ours.fetched = nil, nil
		ours.start = func(ctx context.Context, dir string) (mounter, error) {
			return lab.StartNode(ctx, dir, "--config", config)
		}
		for range b.runs {
			if err := ours.read(ctx, b, static.Addr()); err != nil {
				return results, fmt.Errorf("read-around %s: %w", around, err)
			}
		}
		b.progress("around: %s: %s s, %.1f bytes for each byte", around, spread(ours.seconds), median(ours.fetched))
		results = append(results, result{
			Name: "W3, read-around " + around, Value: median(ours.seconds), Unit: "s",
			Detail: fmt.Sprintf("%s s; %.1f bytes fetched for each byte read; 200 Mbit/s, 10 ms, a plain file server, median of %d", spread(ours.seconds), median(ours.fetched), b.runs),
		})
	}
	return results, nil
}
