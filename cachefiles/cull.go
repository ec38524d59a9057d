package cachefiles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse says that a cache file cannot be removed because the kernel has it open, or is about to.
var ErrInUse = errors.New("the cache file is in use")

// File is a cache file that has a name.
type File struct {
	Key   string    // the ID of the metadata image or blob in it
	Bytes int64     // on disk
	Used  time.Time // when a mount last had it, as far as is known: a day too early at most
	InUse bool      // the kernel has it open, or an attached image may want it
}

// A cache directory holds cache/I<volume>/@<hash>/D<cookie>. Our keys are stored literally, see [checkKey].
const (
	volumePrefix = "I"
	cookiePrefix = "D"
)

// Files lists the cache files that have names, those first that were used longest ago. The list can be out of date when it is returned: [Transport.Cull] decides. What
// was unmounted a moment ago is in use for a moment more.
func (t *Transport) Files(ctx context.Context) ([]File, error) {
	files, err := t.files(ctx)
	if err != nil {
		return nil, fmt.Errorf("list cache files in %s: %w", t.cfg.Dir, err)
	}
	return files, nil
}

func (t *Transport) files(ctx context.Context) (files []File, err error) {
	named, err := t.named(ctx)
	if err != nil || len(named) == 0 {
		return nil, err
	}
	err = t.inCache(func(d *device) error {
		for key, dir := range named {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(dir, cookiePrefix+key), &st); err != nil {
				continue // it has gone
			}
			f := File{Key: key, Bytes: st.Blocks * 512, Used: t.lastUse(key, &st), InUse: t.attachedKey(key)}
			if !f.InUse {
				err := d.commandIn(dir, "inuse "+cookiePrefix+key)
				if gone(err) {
					continue
				}
				if f.InUse = errors.Is(err, unix.EBUSY); err != nil && !f.InUse {
					return err
				}
			}
			files = append(files, f)
		}
		return nil
	})
	slices.SortFunc(files, func(a, b File) int { return cmp.Or(a.Used.Compare(b.Used), cmp.Compare(a.Key, b.Key)) })
	return files, err
}

// Cull removes a cache file. The error is [ErrInUse] if it is in use by now, and nil if it is gone already.
func (t *Transport) Cull(ctx context.Context, key string) error {
	if err := t.cull(ctx, key); err != nil {
		return fmt.Errorf("remove cache file %s: %w", key, err)
	}
	return nil
}

func (t *Transport) cull(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if t.attachedKey(key) {
		return ErrInUse
	}
	dir, _, err := t.find(ctx, key)
	if err != nil || dir == "" {
		return err
	}
	return t.inCache(func(d *device) error {
		err := d.commandIn(dir, "cull "+cookiePrefix+key)
		switch {
		case errors.Is(err, unix.EBUSY):
			return ErrInUse
		case gone(err):
			return nil
		}
		return err
	})
}

// Stored is how many bytes of the metadata image or blob with that ID are on the disk in a cache file that has a name, and 0 if there is none.
func (t *Transport) Stored(key string) int64 {
	dir, st, err := t.find(context.Background(), key)
	if err != nil || dir == "" {
		return 0
	}
	return st.Blocks * 512
}

// gone reports whether the kernel says that there is no such file.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) }

func (t *Transport) volumeDir() string {
	return filepath.Join(t.cfg.Dir, "cache", volumePrefix+t.volume)
}

func (t *Transport) attachedKey(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.metas[key] != nil || t.blobs[key] != nil
}

// shards lists the directories that cache files are in, 256 at most.
func (t *Transport) shards() (dirs []string, err error) {
	entries, err := os.ReadDir(t.volumeDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		dirs = append(dirs, filepath.Join(t.volumeDir(), e.Name()))
	}
	return dirs, nil
}

// find returns the directory of a key's cache file, "" if it has no name.
func (t *Transport) find(ctx context.Context, key string) (dir string, st unix.Stat_t, err error) {
	shards, err := t.shards()
	if err != nil {
		return "", st, err
	}
	for _, dir := range shards {
		if ctx.Err() != nil {
			return "", st, context.Cause(ctx)
		}
		if unix.Lstat(filepath.Join(dir, cookiePrefix+key), &st) == nil {
			return dir, st, nil
		}
	}
	return "", st, nil
}

// named finds the directory of each key's cache file, as far as they have names.
func (t *Transport) named(ctx context.Context) (map[string]string, error) {
	shards, err := t.shards()
	if err != nil {
		return nil, err
	}
	named := make(map[string]string)
	for _, dir := range shards {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if key, ok := strings.CutPrefix(e.Name(), cookiePrefix); ok {
				named[key] = dir
			}
		}
	}
	return named, nil
}

// lastUse is when a file was last used. The kernel renews its access time when a mount opens it, once a day on file systems mounted with relatime, and changes its status when it has
// written to it. The transport remembers when it was closed, for as long as it lives.
func (t *Transport) lastUse(key string, st *unix.Stat_t) time.Time {
	t.mu.Lock()
	last := t.closed[key]
	t.mu.Unlock()
	for _, ts := range []unix.Timespec{st.Atim, st.Mtim, st.Ctim} {
		if at := time.Unix(ts.Unix()); at.After(last) {
			last = at
		}
	}
	return last
}

// maxClosed bounds the memory of when cache files were closed.
const maxClosed = 1 << 14

// noteClosed remembers that a cache file was in use until now. The caller holds t.mu.
func (t *Transport) noteClosed(key string) {
	if len(t.closed) >= maxClosed {
		clear(t.closed)
	}
	t.closed[key] = time.Now()
}
