package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/pagein/pagein/bench/inputs"
	"github.com/pagein/pagein/bench/lab"
)

// mkfsTree is a tree of which images are made, and what is promised of it.
type mkfsTree struct {
	name, path string
	time       float64 // at most, × mkfs.erofs
	goErofs    bool    // compare with go-erofs, too
	peakMiB    float64 // at most; 0: not looked at
}

// benchMkfs compares pagein mkfs with the machine's mkfs.erofs and with go-erofs, page cache warm, uncompressed.
func benchMkfs(ctx context.Context, b *bench) ([]result, error) {
	goroot, err := inputs.Goroot(ctx)
	if err != nil {
		return nil, err
	}
	debian, err := inputs.Debian(ctx, b.progress)
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
	for _, tree := range []mkfsTree{
		{name: "Debian root", path: debian, time: 0.4, goErofs: true},
		{name: "Go toolchain", path: goroot, time: 1},
		{name: "100,000 files", path: many, time: 1, peakMiB: 128},
	} {
		got, err := b.mkfs(ctx, tree)
		results = append(results, got...)
		if err != nil {
			return results, err
		}
	}
	return results, nil
}

func (b *bench) mkfs(ctx context.Context, tree mkfsTree) ([]result, error) {
	b.progress("mkfs: %s", tree.name)
	image := filepath.Join(b.dir, "image.erofs")
	sizes := map[string]float64{}
	packer := func(name, program string, args ...string) *contestant {
		return &contestant{
			name:    name,
			command: func(ctx context.Context) *exec.Cmd { return lab.Command(ctx, program, args...) },
			finish: func([]byte) error {
				info, err := os.Stat(image)
				if err == nil {
					sizes[name] = float64(info.Size())
				}
				return errors.Join(err, os.Remove(image))
			},
		}
	}
	pagein, err := lab.Ours("pagein")
	if err != nil {
		return nil, err
	}
	peer, err := exec.LookPath("mkfs.erofs")
	if err != nil {
		return nil, fmt.Errorf("find mkfs.erofs to compare with: %w", err)
	}
	ours := packer("pagein mkfs", pagein, "mkfs", "--quiet", image, tree.path)
	theirs := packer("mkfs.erofs", peer, "--quiet", image, tree.path)
	all := []*contestant{ours, theirs}
	if tree.goErofs {
		peers, err := lab.Ours("bench-peers")
		if err != nil {
			return nil, err
		}
		all = append(all, packer("go-erofs", peers, "go-erofs", image, tree.path))
	}
	if err := compete(ctx, 1, all...); err != nil { // warms the page cache
		return nil, err
	}
	for _, c := range all {
		c.usage = usage{}
	}
	if err := compete(ctx, b.runs, all...); err != nil {
		return nil, err
	}
	results := []result{b.faster("mkfs time, "+tree.name, tree.time, ours, theirs)}
	if tree.goErofs {
		packer := all[2]
		results = append(results, b.faster("mkfs time, "+tree.name, 0.7, ours, packer),
			atMost("mkfs image size, "+tree.name, sizes[ours.name]/sizes[packer.name], 0.97, "",
				fmt.Sprintf("× go-erofs: %.1f MB / %.1f MB; mkfs.erofs %.1f MB", sizes[ours.name]/1e6, sizes[packer.name]/1e6, sizes[theirs.name]/1e6)))
	}
	if tree.peakMiB > 0 {
		results = append(results, atMost("mkfs peak memory, "+tree.name, ours.peakMiB, tree.peakMiB, "MiB",
			fmt.Sprintf("highest of %d runs; mkfs.erofs %.0f MiB", b.runs, theirs.peakMiB)))
	}
	return results, nil
}

// faster is the ratio of two programs' wall times.
func (b *bench) faster(name string, limit float64, ours, theirs *contestant) result {
	return atMost(name, median(ours.seconds)/median(theirs.seconds), limit, "",
		fmt.Sprintf("× %s: %.2f s / %.2f s, median of %d", theirs.name, median(ours.seconds), median(theirs.seconds), len(theirs.seconds)))
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
