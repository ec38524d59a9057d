package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/pagein/pagein/cachefiles"
	"github.com/pagein/pagein/ondemand/store"
)

// cacheFiles lists what the kernel keeps of blobs and metadata images for transport cachefiles. It is part of the store as far as limits go.
func (n *Node) cacheFiles() ([]keptObject, error) {
	cache := n.transports.cache(n.store.CachefilesDir())
	if cache == nil {
		return nil, nil
	}
	files, err := cache.Files(context.Background()) // asks the kernel, and waits for nothing else
	if errors.Is(err, cachefiles.ErrDead) {
		return nil, nil // nothing can be removed before all is unmounted
	}
	if err != nil {
		return nil, err
	}
	var all []keptObject
	for _, f := range files {
		all = append(all, keptObject{
			Kept: store.Kept{ID: f.Key, Allocated: f.Bytes, Used: f.Used, Open: f.InUse}, kind: kindCacheFile, files: 1,
			remove: func(id string) error { return removeCacheFile(cache, id) },
		})
	}
	return all, nil
}

func removeCacheFile(cache *cachefiles.Transport, id string) error {
	err := cache.Cull(context.Background(), id)
	if errors.Is(err, cachefiles.ErrInUse) || errors.Is(err, cachefiles.ErrDead) {
		return fmt.Errorf("%w: %w", store.ErrOpen, err)
	}
	return err
}

// cacheAgain is how long it is not tried again to open a device that could not be had: finding out who has it means to look at all that all processes have open.
const cacheAgain = 30 * time.Second

// cache returns transport cachefiles if it has something in its directory, opening it for that, or nil if there is nothing or the kernel's device cannot be had.
func (t *transports) cache(dir string) *cachefiles.Transport {
	t.mu.Lock()
	tr, recent := t.opened[cachefilesTransport], time.Since(t.cacheTried) < cacheAgain
	t.mu.Unlock()
	if tr == nil && recent {
		return nil
	}
	if tr == nil {
		if found, err := filepath.Glob(filepath.Join(dir, "cache", "I*", "@*", "D*")); err != nil || len(found) == 0 {
			return nil
		}
		var err error
		if tr, err = t.get(cachefilesTransport); err != nil {
			t.mu.Lock()
			t.cacheTried = time.Now()
			t.mu.Unlock()
			return nil // another program has the device, or this kernel none; a mount would say so
		}
	}
	cache, ok := tr.(*cachefiles.Transport)
	if !ok {
		return nil
	}
	return cache
}
