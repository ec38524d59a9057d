package cachefiles

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/ondemand"
)

// Prime gives names to the cache files of an attached image that has no mount yet. A new cache file has none before the kernel has closed it for the first time, that is before
// the image is unmounted: until then a power cut takes all of it, however long it was written. So the image is mounted once for a moment, where nobody sees it. From the next mount
// on the kernel writes to files with names, and a power cut costs the last seconds.
//
// It does nothing if all files have names, or are open already. Serve must be running. An error says that the files may be without names, which harms nothing but durability.
func (t *Transport) Prime(ctx context.Context, img *ondemand.Image) error {
	nameless, err := t.nameless(ctx, img)
	if err == nil && len(nameless) > 0 {
		err = t.prime(ctx, img, nameless)
	}
	if err != nil {
		return fmt.Errorf("give names to the cache files of image %s: %w", img.ID, err)
	}
	return nil
}

// primeLimit bounds the wait for the kernel to close what it was made to open, which it does at once.
const primeLimit = 20 * time.Second

func (t *Transport) prime(ctx context.Context, img *ondemand.Image, nameless []string) error {
	m, err := kmount.Open(ctx, kmount.EROFS{Source: img.MetaPath, Fsid: img.ID, Domain: t.cfg.Domain})
	if err != nil {
		return err
	}
	if err := m.Close(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, primeLimit, errors.New("the kernel does not close them"))
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if !t.anyOpen(nameless) {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// nameless lists the cache files that the image needs, that have no name, and that the kernel does not have open for another image.
func (t *Transport) nameless(ctx context.Context, img *ondemand.Image) ([]string, error) {
	named, err := t.named(ctx)
	if err != nil {
		return nil, err
	}
	keys := []string{img.ID}
	for _, b := range img.Blobs {
		keys = append(keys, b.ID())
	}
	return slices.DeleteFunc(keys, func(key string) bool { return named[key] != "" || t.anyOpen([]string{key}) }), nil
}

// anyOpen reports whether the kernel has one of the keys open.
func (t *Transport) anyOpen(keys []string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.objects {
		if slices.Contains(keys, o.key) {
			return true
		}
	}
	return false
}
