package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/pagein/pagein/node/control"
)

// missData is how much the trees hold that misses are measured with, in bytes.
const missData = 256 << 20

// benchMiss reports the daemon's own share of a miss: from the kernel's request to its completion, less the time spent waiting for the backend.
// The data does not compress, so frames are stored raw, and the reads come in random order. A whole frame, 128 KiB or less, is verified and written whatever
// the kernel asked for.
func benchMiss(ctx context.Context, b *bench) ([]result, error) {
	var results []result
	for _, c := range []struct {
		files    string
		fileSize int
	}{{"small files", 64 << 10}, {"large files", 32 << 20}} {
		totals, err := missTimes(ctx, b, c.fileSize)
		if err != nil {
			return results, err
		}
		own, all := totals.OwnTime, totals.MissTime
		if own.Count == 0 {
			return results, errors.New("the daemon reports no misses, although everything was read for the first time")
		}
		detail := fmt.Sprintf("of %d misses, raw frames, OCI layout on this disk; with the backend p50 %.0f µs, p99 %.0f µs", own.Count, micro(all.P50), micro(all.P99))
		results = append(results,
			atMost("daemon's own share of a miss in "+c.files+", p50", micro(own.P50), missLimit, "µs", detail),
			result{Name: "daemon's own share of a miss in " + c.files + ", p99", Value: micro(own.P99), Unit: "µs", Detail: detail})
	}
	return results, nil
}

// missLimit is what the daemon's own share of half of the misses may be, in µs.
const missLimit = 150

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// missTimes reads files of one size through a lazy mount for the first time, and returns what the daemon counted.
func missTimes(ctx context.Context, b *bench, fileSize int) (_ control.Totals, err error) {
	b.progress("miss: %d MiB that do not compress, in files of %d KiB", missData>>20, fileSize>>10)
	dir, err := os.MkdirTemp(b.dir, "miss-")
	if err != nil {
		return control.Totals{}, err
	}
	defer os.RemoveAll(dir)
	source, mnt := filepath.Join(dir, "source"), filepath.Join(dir, "mnt")
	if err := errors.Join(os.Mkdir(source, 0o755), os.Mkdir(mnt, 0o755)); err != nil {
		return control.Totals{}, err
	}
	random := rand.NewChaCha8([32]byte{1})
	data := make([]byte, fileSize)
	for i := range missData / fileSize {
		random.Read(data)
		if err := os.WriteFile(filepath.Join(source, fmt.Sprintf("file-%d", i)), data, 0o644); err != nil {
			return control.Totals{}, err
		}
	}
	node, unmount, err := mountLazily(ctx, dir, "dir:"+source, mnt)
	if err != nil {
		return control.Totals{}, err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	if err := readRandomly(ctx, mnt, missData/fileSize, fileSize); err != nil {
		return control.Totals{}, err
	}
	status, err := node.Status(ctx)
	return status.Totals, err
}

// readRandomly reads every 64 KiB piece of file-0 … below dir once, in random order, one after the other.
func readRandomly(ctx context.Context, dir string, files, size int) error {
	const piece = 64 << 10
	perFile := size / piece
	buf := make([]byte, piece)
	for _, at := range rand.New(rand.NewPCG(1, 2)).Perm(files * perFile) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := readPiece(filepath.Join(dir, fmt.Sprintf("file-%d", at/perFile)), buf, int64(at%perFile)*piece); err != nil {
			return err
		}
	}
	return nil
}

func readPiece(path string, buf []byte, off int64) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.ReadAt(buf, off)
	return err
}
