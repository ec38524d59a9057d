package vmtests

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// recipe is part of every cache key: change it whenever the same packages would be made into something else.
const recipe = "1"

// unused is how long a kernel stays in the cache that nobody boots any more.
const unused = 30 * 24 * time.Hour

const manifest = "kernel.json"

// hash makes a short name of what something was made from.
func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

func prepare(ctx context.Context, series string, log func(string)) (*Kernel, error) {
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	p, err := resolve(ctx, series)
	if err != nil {
		return nil, err
	}
	name := "kernel-" + p.release + "-" + hash(append(p.all(), recipe)...)
	unlock, err := lock(ctx, filepath.Join(cache, name+".lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	dir := filepath.Join(cache, name)
	if k, err := load(dir); err == nil {
		return k, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	work := filepath.Join(cache, name+".work")
	log("building the modules of Linux " + p.release + " (" + p.version + ") in " + work)
	k, err := build(ctx, p, work, log)
	if err != nil {
		return nil, err
	}
	if err := os.Rename(filepath.Join(work, "out"), dir); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(work); err != nil {
		return nil, err
	}
	k.dir = dir
	return k, prune(cache)
}

// load reads a finished kernel and notes that it was used.
func load(dir string) (*Kernel, error) {
	text, err := os.ReadFile(filepath.Join(dir, manifest))
	if err != nil {
		return nil, err
	}
	k := &Kernel{dir: dir}
	if err := json.Unmarshal(text, k); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, manifest), err)
	}
	now := time.Now()
	return k, os.Chtimes(dir, now, now)
}

// prune removes kernels, finished or not, that were not used for a long time.
func prune(cache string) error {
	entries, err := os.ReadDir(cache)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasPrefix(e.Name(), "kernel-") || time.Since(info.ModTime()) < unused {
			continue
		}
		if err := os.RemoveAll(filepath.Join(cache, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// lock takes a lock that ends with the process at the latest, and touches its file, so that [prune] leaves a lock in use alone.
func lock(ctx context.Context, path string) (unlock func(), err error) {
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
	now := time.Now()
	return func() { _ = f.Close() }, os.Chtimes(path, now, now)
}
