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

	"github.com/pagein/pagein/internal/cache"
)

// recipe is part of every cache key: change it whenever the same packages would be made into something else.
const recipe = "2"

const manifest = "kernel.json"

// hash makes a short name of what something was made from.
func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

func prepare(ctx context.Context, series string, log func(string)) (*Kernel, error) {
	kept, err := cache.Dir(cacheKind)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(kept, 0o755); err != nil {
		return nil, err
	}
	p, err := resolve(ctx, series)
	if err != nil {
		return nil, err
	}
	name := "kernel-" + p.release + "-" + hash(append(p.all(), recipe)...)
	unlock, err := cache.Lock(ctx, filepath.Join(kept, name+".lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	dir := filepath.Join(kept, name)
	if k, err := load(dir); err == nil {
		return k, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	work := filepath.Join(kept, name+".work")
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
	return k, cache.Prune(kept, "kernel-")
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
