package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pagein/pagein/bench/inputs"
	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/oci/convert"
	"github.com/pagein/pagein/oci/layout"
)

// benchNode measures what the daemon itself costs: its share of a miss in small frames, and its memory for each image.
func benchNode(ctx context.Context, b *bench) ([]result, error) {
	results, err := b.ownTime(ctx)
	if err != nil {
		return results, err
	}
	heap, err := b.heap(ctx)
	return append(results, heap), err
}

// ownTime reads frames of 32 KiB that are stored raw from a local layout, in random order.
func (b *bench) ownTime(ctx context.Context) (results []result, err error) {
	const files, size = 2000, 32 << 10
	b.progress("node: misses in frames of 32 KiB")
	data := inputs.Generated("raw", inputs.Files{Seed: 5, Count: files, MinSize: size, MaxSize: size})
	_, err = b.lay(ctx, frames(32, 32), func(dst *layout.Store, o convert.Options) (convert.Result, error) {
		return b.streamed(ctx, data, dst, o)
	}, func(src *layout.Store, made convert.Result) error {
		return b.onNode(ctx, func(node *lab.Node, _ string) error {
			return b.mounted(ctx, node, "oci:"+src.Dir()+"@"+made.Descriptor.Digest.String(), func(mnt string, _ time.Time) error {
				var names strings.Builder
				for i := range files {
					at := i * 7 % files
					fmt.Fprintf(&names, "%s/raw/%04d/file-%06d\x00", mnt, at/100, at)
				}
				cmd := lab.Command(ctx, "/bin/sh", "-c", "xargs -0 cat >/dev/null")
				cmd.Stdin = strings.NewReader(names.String())
				if _, err := lab.Output(cmd); err != nil {
					return err
				}
				status, err := node.Status(ctx)
				if err != nil {
					return err
				}
				own := status.Totals.OwnTime
				detail := fmt.Sprintf("of %d misses, frames of 32 KiB stored raw, OCI layout on this disk", own.Count)
				results = append(results,
					atMost("daemon's own share of a miss, frames of 32 KiB, p50", micro(own.P50), 60, "µs", detail),
					atMost("the same, p99", micro(own.P99), 500, "µs", detail))
				return nil
			})
		})
	})
	return results, err
}

// mountedImages is how many images the daemon's memory is divided by.
const mountedImages = 50

// heap mounts images that have nothing in common and asks the daemon for its heap.
func (b *bench) heap(ctx context.Context) (r result, err error) {
	b.progress("node: %d images mounted", mountedImages)
	err = b.onNode(ctx, func(node *lab.Node, dir string) error {
		before, err := node.Heap(ctx)
		if err != nil {
			return err
		}
		var targets []string
		for i := range mountedImages {
			dst, err := layout.Create(filepath.Join(dir, fmt.Sprintf("layout-%d", i)))
			if err != nil {
				return err
			}
			made, err := b.streamed(ctx, inputs.Generated("image", inputs.Files{Seed: byte(10 + i), Count: 1000, MinSize: 0, MaxSize: 16 << 10, Text: 0.5}), dst,
				convert.Options{TempDir: dir})
			if err != nil {
				return err
			}
			mnt := filepath.Join(dir, fmt.Sprintf("mnt-%d", i))
			if err := os.Mkdir(mnt, 0o755); err != nil {
				return err
			}
			if err := node.Mount(ctx, "oci:"+dst.Dir()+"@"+made.Descriptor.Digest.String(), mnt); err != nil {
				return err
			}
			targets = append(targets, mnt)
			if _, err := lab.Output(lab.Command(ctx, "/bin/sh", "-c", "cat "+mnt+"/image/0000/* >/dev/null")); err != nil {
				return err
			}
		}
		after, err := node.Heap(ctx)
		for _, mnt := range targets {
			err = errors.Join(err, node.Unmount(ctx, mnt))
		}
		r = atMost("heap for each mounted image", float64(after-before)/mountedImages/(1<<20), 1, "MiB",
			fmt.Sprintf("(%.1f MiB − %.1f MiB) / %d, after a collection; 1,000 files each, a hundred read", float64(after)/(1<<20), float64(before)/(1<<20), mountedImages))
		return err
	})
	return r, err
}

// onNode has a daemon with a new store, and a directory, used.
func (b *bench) onNode(ctx context.Context, use func(node *lab.Node, dir string) error) (err error) {
	dir, err := os.MkdirTemp(b.dir, "node-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.UnmountBelow(dir), os.RemoveAll(dir)) }()
	node, err := lab.StartNode(ctx, dir, "--pprof")
	if err != nil {
		return err
	}
	return errors.Join(use(node, dir), node.Stop())
}

// blobFile is a blob of an OCI layout.
type blobFile struct {
	digest string
	size   int64
}

// largestBlob finds the largest blob of a layout.
func largestBlob(s *layout.Store) (largest blobFile, err error) {
	entries, err := os.ReadDir(filepath.Join(s.Dir(), "blobs", "sha256"))
	if err != nil {
		return largest, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return largest, err
		}
		if info.Size() > largest.size {
			largest = blobFile{"sha256:" + e.Name(), info.Size()}
		}
	}
	return largest, nil
}
