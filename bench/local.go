package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/internal/kmount"
)

const (
	localFile = "a"       // the file whose pieces are read at random
	localData = 256 << 20 // its size in bytes
)

// benchLocal compares kernel requests whose bytes are there already, as long as the blob is not complete and its mark stays, with a daemon that only says ALLOW. A second
// daemon may evict ranges of what is mounted, for which the kernel tells it of each read that is over.
func benchLocal(ctx context.Context, b *bench) (_ []result, err error) {
	dir, err := os.MkdirTemp(b.dir, "local-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.UnmountBelow(dir), os.RemoveAll(dir)) }()
	source, plainMnt := filepath.Join(dir, "source"), filepath.Join(dir, "plain")
	if err := errors.Join(os.Mkdir(source, 0o755), os.Mkdir(plainMnt, 0o755)); err != nil {
		return nil, err
	}
	if _, err := localSource(source); err != nil {
		return nil, err
	}
	stopAllow, err := b.allowing(ctx, dir, source, plainMnt)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.UnmountBelow(dir), stopAllow()) }()
	config := filepath.Join(dir, "evicting.toml")
	if err := os.WriteFile(config, []byte("evict-mounted-ranges = true\n"), 0o600); err != nil {
		return nil, err
	}
	lazyMnt, unmountLazy, err := b.marked(ctx, filepath.Join(dir, "lazy"), source)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unmountLazy()) }()
	evictingMnt, unmountEvicting, err := b.marked(ctx, filepath.Join(dir, "evicting"), source, "--config", config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unmountEvicting()) }()
	if err := readOnce(ctx, plainMnt); err != nil {
		return nil, err
	}
	var results []result
	for _, readers := range []int{1, 4} {
		rates := map[string][]float64{lazyMnt: nil, evictingMnt: nil, plainMnt: nil}
		for range b.runs {
			for mnt := range rates {
				n, err := preads(ctx, filepath.Join(mnt, localFile), readers)
				if err != nil {
					return results, err
				}
				rates[mnt] = append(rates[mnt], n)
			}
		}
		lazy, evicting, allow := median(rates[lazyMnt]), median(rates[evictingMnt]), median(rates[plainMnt])
		detail := func(rate float64) string {
			return fmt.Sprintf("× a daemon that only says ALLOW: %.0f/s / %.0f/s, 4 KiB at random, fanotify, median of %d", rate, allow, b.runs)
		}
		results = append(results,
			atLeast(fmt.Sprintf("misses whose bytes are there, %d reader(s)", readers), lazy/allow, 0.7, "", detail(lazy)),
			result{Name: "the same with evict-mounted-ranges", Value: evicting / allow, Detail: detail(evicting)})
	}
	return results, nil
}

// marked mounts a source lazily below dir, which is made, and reads localFile, so that all of that is there while the rest is not. The returned function undoes the mount.
func (b *bench) marked(ctx context.Context, dir, source string, options ...string) (mnt string, unmount func() error, err error) {
	mnt = filepath.Join(dir, "mnt")
	if err := os.MkdirAll(mnt, 0o755); err != nil {
		return "", nil, err
	}
	node, unmount, err := mountLazily(ctx, dir, "dir:"+source, mnt, options...)
	if err != nil {
		return "", nil, err
	}
	if err := readOnce(ctx, mnt); err != nil {
		return "", nil, errors.Join(err, unmount())
	}
	if marks, err := node.Marks(); err != nil || marks == 0 {
		return "", nil, errors.Join(fmt.Errorf("the daemon's file is not marked, so nobody is asked any more: %w", errors.Join(err, errShort)), unmount())
	}
	return mnt, unmount, nil
}

// readOnce reads all of localFile.
func readOnce(ctx context.Context, mnt string) error {
	_, err := lab.Output(lab.Command(ctx, "dd", "if="+filepath.Join(mnt, localFile), "of=/dev/null", "bs=1M", "status=none"))
	return err
}

// localSource writes localFile and another file into a directory, and returns what is in the first.
func localSource(dir string) ([]byte, error) {
	data := make([]byte, localData)
	rand.NewChaCha8([32]byte{7}).Read(data)
	// What is never read keeps the blob incomplete.
	return data, errors.Join(os.WriteFile(filepath.Join(dir, localFile), data, 0o644), os.WriteFile(filepath.Join(dir, "z"), data[1:32<<20], 0o644))
}

// allowing mounts a plain image whose data device is marked by a daemon that says ALLOW to all. The returned function ends that; all must be unmounted before.
func (b *bench) allowing(ctx context.Context, dir, source, mnt string) (func() error, error) {
	pagein, err := lab.Ours("pagein")
	if err != nil {
		return nil, err
	}
	meta, blob := filepath.Join(dir, "plain.erofs"), filepath.Join(dir, "plain.blob")
	if _, err := lab.Output(lab.Command(ctx, pagein, "mkfs", "--quiet", "--blobdev="+blob, meta, source)); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := lab.Command(context.WithoutCancel(ctx), self, blob)
	cmd.Args[0] = allowName
	allow, err := lab.StartService(cmd)
	if err != nil {
		return nil, err
	}
	marked := func(context.Context) error {
		if _, err := os.Stat(blob + allowReady); err != nil {
			return err
		}
		return nil
	}
	if err := allow.Await(ctx, 10*time.Second, marked); err != nil {
		return nil, errors.Join(err, allow.Stop())
	}
	if err := kmount.Mount(ctx, kmount.EROFS{Source: meta, Devices: []string{blob}}, mnt); err != nil {
		return nil, errors.Join(err, allow.Stop())
	}
	return allow.Stop, nil
}

// preads reads pieces of 4 KiB that EROFS has not cached and returns how many a second.
func preads(ctx context.Context, path string, readers int) (float64, error) {
	const piece, each = 4096, 8000
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// The blob's own pages stay cached: what is measured is the question, not the disk.
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return 0, err
	}
	order := rand.New(rand.NewPCG(8, 9)).Perm(localData / piece)
	g, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for r := range readers {
		g.Go(func() error {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
				return err
			}
			buf := make([]byte, piece)
			for _, at := range order[r*each : (r+1)*each] {
				if _, err := f.ReadAt(buf, int64(at)*piece); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return float64(readers*each) / time.Since(began).Seconds(), nil
}
