package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pagein/pagein/bench/inputs"
	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/internal/kmount"
)

// benchRead compares reading everything through a lazy mount, once all of it is on this machine, with reading a plain EROFS image of the
// same tree on the same disk; the page cache is empty each time.
func benchRead(ctx context.Context, b *bench) (_ []result, err error) {
	goroot, err := inputs.Goroot(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "read-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	plain, plainMnt, lazyMnt := filepath.Join(dir, "plain.erofs"), filepath.Join(dir, "plain"), filepath.Join(dir, "lazy")
	if err := errors.Join(os.Mkdir(plainMnt, 0o755), os.Mkdir(lazyMnt, 0o755)); err != nil {
		return nil, err
	}
	b.progress("read: a plain and a lazy image of %s", goroot)
	pagein, err := lab.Ours("pagein")
	if err != nil {
		return nil, err
	}
	if _, err := lab.Output(lab.Command(ctx, pagein, "mkfs", "--quiet", plain, goroot)); err != nil {
		return nil, err
	}
	if err := kmount.Mount(ctx, kmount.EROFS{Source: plain}, plainMnt); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.UnmountBelow(dir)) }()
	node, unmount, err := mountLazily(ctx, dir, "dir:"+goroot, lazyMnt)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	if _, err := readAll(ctx, lazyMnt, 1); err != nil {
		return nil, err
	}
	if err := complete(ctx, node); err != nil {
		return nil, err
	}
	if err := unmarked(ctx, node); err != nil {
		return nil, err
	}

	var results []result
	for _, readers := range []int{1, 4} {
		b.progress("read: all of both, %d at a time", readers)
		var lazy, native []float64
		for range b.runs {
			for _, side := range []struct {
				mnt  string
				into *[]float64
			}{{lazyMnt, &lazy}, {plainMnt, &native}} {
				if err := lab.DropCaches(); err != nil {
					return results, err
				}
				began := time.Now()
				n, err := readAll(ctx, side.mnt, readers)
				if err != nil {
					return results, err
				}
				*side.into = append(*side.into, float64(n)/1e6/time.Since(began).Seconds())
			}
		}
		results = append(results, atLeast(fmt.Sprintf("reading all, %d reader(s), complete lazy mount", readers), median(lazy)/median(native), 0.95, "",
			fmt.Sprintf("× plain EROFS: %.0f MB/s / %.0f MB/s, cold, median of %d; no fanotify mark is left", median(lazy), median(native), b.runs)))
	}
	return results, nil
}

// mountLazily converts a source into a layout below dir, starts a daemon there, with more options if need be, and mounts it on mnt. The returned function undoes the latter.
func mountLazily(ctx context.Context, dir, source, mnt string, options ...string) (*lab.Node, func() error, error) {
	pagein, err := lab.Ours("pagein")
	if err != nil {
		return nil, nil, err
	}
	ref := "oci:" + filepath.Join(dir, "layout") + ":lazy"
	if _, err := lab.Output(lab.Command(ctx, pagein, "convert", source, ref)); err != nil {
		return nil, nil, err
	}
	home := filepath.Join(dir, "node")
	if err := os.Mkdir(home, 0o755); err != nil {
		return nil, nil, err
	}
	node, err := lab.StartNode(ctx, home, options...)
	if err != nil {
		return nil, nil, err
	}
	if err := node.Mount(ctx, ref, mnt); err != nil {
		return nil, nil, errors.Join(err, node.Stop())
	}
	return node, func() error { return errors.Join(node.Unmount(ctx, mnt), node.Stop()) }, nil
}

// complete fails unless every byte of the node's only image is on this machine.
func complete(ctx context.Context, node *lab.Node) error {
	status, err := node.Status(ctx)
	if err != nil {
		return err
	}
	if len(status.Images) != 1 || status.Images[0].PresentBytes != status.Images[0].TotalBytes {
		return fmt.Errorf("after everything was read, the image is not complete: %+v", status.Images)
	}
	return nil
}

// unmarked waits until the kernel does not ask the node's daemon any more.
func unmarked(ctx context.Context, node *lab.Node) error {
	for range 100 {
		if marks, err := node.Marks(); err != nil || marks == 0 {
			return err
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the image is complete, and still the kernel asks the daemon about it: its fanotify marks have not been dropped")
}

// readAll reads every regular file below dir, a number of files at a time, and returns their bytes.
func readAll(ctx context.Context, dir string, readers int) (int64, error) {
	paths := make(chan string)
	counts := make([]int64, readers)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(paths)
		return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			select {
			case paths <- path:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	for i := range readers {
		group.Go(func() error {
			buf := make([]byte, 1<<20)
			for path := range paths {
				n, err := readFile(path, buf)
				if err != nil {
					return err
				}
				counts[i] += n
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, fmt.Errorf("read everything below %s: %w", dir, err)
	}
	var total int64
	for _, n := range counts {
		total += n
	}
	return total, nil
}

// readFile reads a file through buf and returns its size.
func readFile(path string, buf []byte) (size int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for {
		n, err := file.Read(buf)
		size += int64(n)
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return size, err
		}
	}
}
