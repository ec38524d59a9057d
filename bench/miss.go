package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// benchMiss reports the daemon's own share of a miss: from the kernel's request to its completion, less the time spent waiting for the backend.
// The data does not compress, so its frames are stored raw, and the reads come in random order.
func benchMiss(ctx context.Context, b *bench) (_ []result, err error) {
	const (
		files    = 8
		fileSize = 32 << 20
	)
	dir, err := os.MkdirTemp(b.dir, "miss-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b.progress("miss: an image of %d MiB that does not compress", files*fileSize>>20)
	source, mnt := filepath.Join(dir, "source"), filepath.Join(dir, "mnt")
	if err := errors.Join(os.Mkdir(source, 0o755), os.Mkdir(mnt, 0o755)); err != nil {
		return nil, err
	}
	random := rand.NewChaCha8([32]byte{1})
	data := make([]byte, fileSize)
	for i := range files {
		random.Read(data)
		if err := os.WriteFile(filepath.Join(source, fmt.Sprintf("file-%d", i)), data, 0o644); err != nil {
			return nil, err
		}
	}
	node, unmount, err := mountLazily(ctx, dir, "dir:"+source, mnt)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	b.progress("miss: reading it in random order")
	if err := readRandomly(ctx, mnt, files, fileSize); err != nil {
		return nil, err
	}
	status, err := node.Status(ctx)
	if err != nil {
		return nil, err
	}
	own, all := status.Totals.OwnTime, status.Totals.MissTime
	if own.Count == 0 {
		return nil, errors.New("the daemon reports no misses, although everything was read for the first time")
	}
	micro := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	detail := fmt.Sprintf("of %d misses, raw frames, OCI layout on this disk; with the backend p50 %.0f µs, p99 %.0f µs", own.Count, micro(all.P50), micro(all.P99))
	return []result{
		atMost("daemon's own share of a miss, p50", micro(own.P50), 150, "µs", detail),
		{Name: "daemon's own share of a miss, p99", Value: micro(own.P99), Unit: "µs", Detail: detail},
	}, nil
}

// readRandomly reads every 64 KiB piece of file-0 … below dir once, in random order, one after the other.
func readRandomly(ctx context.Context, dir string, files int, size int64) error {
	const piece = 64 << 10
	perFile := int(size / piece)
	handles := make([]*os.File, files)
	for i := range handles {
		file, err := os.Open(filepath.Join(dir, fmt.Sprintf("file-%d", i)))
		if err != nil {
			return err
		}
		defer file.Close()
		handles[i] = file
	}
	buf := make([]byte, piece)
	for _, at := range rand.New(rand.NewPCG(1, 2)).Perm(files * perFile) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := handles[at/perFile].ReadAt(buf, int64(at%perFile)*piece); err != nil {
			return err
		}
	}
	return nil
}
