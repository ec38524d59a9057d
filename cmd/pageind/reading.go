package main

import (
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand"
)

// readingConfig is the part of the configuration that says how images are read.
type readingConfig struct {
	ReadDeadline  string `toml:"read-deadline"`
	Prefetch      string `toml:"prefetch"`
	HostRequests  int    `toml:"host-requests"`
	HostBandwidth string `toml:"host-bandwidth"`
	ReadAround    string `toml:"read-around"`
}

// leastBandwidth is the least that a host's bandwidth may be limited to, in bytes per second: a slower one would be taken for a source that stalls.
const leastBandwidth = 64 << 10

// maxAround is the most that may be guessed around a first miss, in bytes.
const maxAround = 32 << 20

// reading checks the settings. It returns bounds for the engine, and whether images are fetched in the background.
func (c readingConfig) reading() (o ondemand.Options, prefetch bool, err error) {
	if o.Deadline, err = control.ParseDeadline(c.ReadDeadline); err != nil {
		return o, false, fmt.Errorf("read-deadline: %w", err)
	}
	if prefetch, err = control.ParsePrefetch(c.Prefetch); err != nil {
		return o, false, err
	}
	if c.HostRequests != 0 && (c.HostRequests < 2 || c.HostRequests > 1024) {
		return o, false, errors.New("host-requests is not from 2 to 1024: readers need one that prefetching cannot take")
	}
	o.HostRequests = c.HostRequests
	if o.ReadAround, err = parseAround(c.ReadAround); err != nil {
		return o, false, err
	}
	if c.HostBandwidth == "" {
		return o, prefetch, nil
	}
	bytes, err := humanize.ParseBytes(c.HostBandwidth)
	if err != nil || bytes < leastBandwidth || bytes > 1<<50 {
		return o, false, fmt.Errorf("host-bandwidth %q is no number of bytes per second, such as 20MB, of at least 64KiB", c.HostBandwidth)
	}
	o.HostBandwidth = int64(bytes)
	return o, prefetch, nil
}

// parseAround reads how much is guessed around a miss: "" for the default, "none", or a number of bytes.
func parseAround(s string) (int64, error) {
	switch s {
	case "":
		return 0, nil
	case "none":
		return -1, nil
	}
	bytes, err := humanize.ParseBytes(s)
	if err != nil || bytes == 0 || bytes > maxAround {
		return 0, fmt.Errorf("read-around %q is neither none nor a number of bytes, such as 2MiB, of at most 32MiB", s)
	}
	return int64(bytes), nil
}
