package main

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pagein/pagein/node"
)

// cacheConfig is the part of the configuration that says what the store may keep.
type cacheConfig struct {
	CacheHigh          string `toml:"cache-high"`
	CacheLow           string `toml:"cache-low"`
	CacheReserve       string `toml:"cache-reserve"`
	EvictIdleMounts    string `toml:"evict-idle-mounts"`
	EvictMountedRanges bool   `toml:"evict-mounted-ranges"`
}

// never is a time that does not come.
const never = "never"

// limits checks the settings.
func (c cacheConfig) limits() (l node.CacheLimits, err error) {
	if l.High, err = node.ParseLevel(c.CacheHigh); err != nil {
		return l, fmt.Errorf("cache-high: %w", err)
	}
	if l.Low, err = node.ParseLevel(c.CacheLow); err != nil {
		return l, fmt.Errorf("cache-low: %w", err)
	}
	reserve, err := humanize.ParseBytes(c.CacheReserve)
	if err != nil || reserve > 1<<40 {
		return l, fmt.Errorf("cache-reserve: %q is no number of bytes such as 64MiB", c.CacheReserve)
	}
	l.Reserve = int64(reserve)
	if c.EvictIdleMounts != never {
		if l.IdleMounts, err = time.ParseDuration(c.EvictIdleMounts); err != nil || l.IdleMounts <= 0 {
			return l, fmt.Errorf("evict-idle-mounts: %q is neither a time such as 1h nor %q", c.EvictIdleMounts, never)
		}
	}
	l.MountedRanges = c.EvictMountedRanges
	if err := l.Check(); err != nil {
		return l, fmt.Errorf("cache-high and cache-low: %w", err)
	}
	return l, nil
}
