package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pagein/pagein/bench/lab"
)

// benchMkfs compares pagein mkfs with the machine's mkfs.erofs on a toolchain and on very many small files, page cache warm.
func benchMkfs(ctx context.Context, b *bench) ([]result, error) {
	pagein, err := lab.Ours("pagein")
	if err != nil {
		return nil, err
	}
	peer, err := exec.LookPath("mkfs.erofs")
	if err != nil {
		return nil, fmt.Errorf("find mkfs.erofs to compare with: %w", err)
	}
	goroot, err := findGoroot(ctx)
	if err != nil {
		return nil, err
	}
	const files = 100_000
	b.progress("mkfs: making %d small files", files)
	many := filepath.Join(b.dir, "many")
	defer os.RemoveAll(many)
	if err := makeSmallFiles(ctx, many, files); err != nil {
		return nil, err
	}

	var results []result
	for _, tree := range []struct{ name, path string }{{"Go toolchain", goroot}, {"100,000 files", many}} {
		b.progress("mkfs: %s", tree.name)
		var ours, theirs usage
		for i := range b.runs + 1 { // the first run warms the page cache and does not count
			if err := alternate(ctx, i, b.dir, &ours, pagein, "mkfs", "--quiet", "IMAGE", tree.path); err != nil {
				return results, err
			}
			if err := alternate(ctx, i, b.dir, &theirs, peer, "--quiet", "IMAGE", tree.path); err != nil {
				return results, err
			}
		}
		results = append(results, atMost("mkfs time, "+tree.name, median(ours.seconds)/median(theirs.seconds), 1, "",
			fmt.Sprintf("× mkfs.erofs: %.2f s / %.2f s, median of %d", median(ours.seconds), median(theirs.seconds), b.runs)))
		if tree.path == many {
			results = append(results, atMost("mkfs peak memory, "+tree.name, ours.peakMiB, 128, "MiB",
				fmt.Sprintf("highest of %d runs; mkfs.erofs %.0f MiB", b.runs, theirs.peakMiB)))
		}
	}
	return results, nil
}

// usage is what runs of a program took.
type usage struct {
	seconds []float64
	peakMiB float64 // highest resident size of any run
}

// alternate runs a program that writes the image whose name stands as IMAGE in args, and removes the image. Run 0 is not counted.
func alternate(ctx context.Context, run int, dir string, u *usage, program string, args ...string) error {
	image := filepath.Join(dir, "image.erofs")
	for i, arg := range args {
		if arg == "IMAGE" {
			args[i] = image
		}
	}
	syscall.Sync() // what the run before has left to write is not this one's to pay for
	cmd := lab.Command(ctx, program, args...)
	began := time.Now()
	_, err := lab.Output(cmd)
	took := time.Since(began)
	if err != nil {
		return err
	}
	if run > 0 {
		u.seconds = append(u.seconds, took.Seconds())
		if rusage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			u.peakMiB = max(u.peakMiB, float64(rusage.Maxrss)/1024) // Linux counts KiB
		}
	}
	return os.Remove(image)
}

// makeSmallFiles writes n files of up to 4 KiB, a hundred to a directory; the same at every call.
func makeSmallFiles(ctx context.Context, dir string, n int) error {
	source := rand.NewChaCha8([32]byte{})
	data := make([]byte, 4096)
	for i := range n {
		parent := filepath.Join(dir, fmt.Sprintf("d%03d", i/1000), fmt.Sprintf("d%02d", i/100%10))
		if i%100 == 0 {
			if err := errors.Join(ctx.Err(), os.MkdirAll(parent, 0o755)); err != nil {
				return fmt.Errorf("make small files: %w", err)
			}
		}
		source.Read(data)
		if err := os.WriteFile(filepath.Join(parent, fmt.Sprintf("file-%06d", i)), data[:source.Uint64()%4097], 0o644); err != nil {
			return fmt.Errorf("make small files: %w", err)
		}
	}
	return nil
}

func findGoroot(ctx context.Context) (string, error) {
	out, err := lab.Output(lab.Command(ctx, "go", "env", "GOROOT"))
	return strings.TrimSpace(string(out)), err
}
