// Package cache keeps what tests and benchmarks make at some cost between runs. It knows directories and locks, not what lies in them.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Unused is how long something stays that nobody asks for any more.
const Unused = 30 * 24 * time.Hour

// Dir is where things of one kind are kept: $PAGEIN_CACHE or the user's cache directory, and in it pagein/KIND. It need not exist.
func Dir(kind string) (string, error) {
	base := os.Getenv("PAGEIN_CACHE")
	if base == "" {
		var err error
		if base, err = os.UserCacheDir(); err != nil {
			return "", fmt.Errorf("find a cache directory (set PAGEIN_CACHE): %w", err)
		}
	}
	return filepath.Join(base, "pagein", kind), nil
}

// Get returns the directory called name in dir, and calls build to fill it if it is not there. What build leaves unfinished is removed. Of several that
// ask at the same time, in one or several processes, one builds. The directory's time is that of its last use.
func Get(ctx context.Context, dir, name string, build func(work string) error) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil { // what is kept may hold set-uid programs
		return "", err
	}
	path := filepath.Join(dir, name)
	unlock, err := Lock(ctx, path+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, errors.Join(err, touch(path))
	}
	work := path + ".work"
	defer os.RemoveAll(work)
	if err := errors.Join(os.RemoveAll(work), os.Mkdir(work, 0o755)); err != nil {
		return "", err
	}
	if err := build(work); err != nil {
		return "", err
	}
	return path, errors.Join(os.Rename(work, path), touch(path))
}

func touch(path string) error {
	now := time.Now()
	return os.Chtimes(path, now, now)
}

// Prune removes what nobody has asked for since [Unused], and whose name in dir begins with prefix.
func Prune(dir, prefix string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasPrefix(e.Name(), prefix) || time.Since(info.ModTime()) < Unused {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Lock takes a lock that ends with the process at the latest, and touches its file, so that [Prune] leaves a lock in use alone.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("wait for the lock %s: %w", path, context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
	return func() { _ = f.Close() }, touch(path)
}
