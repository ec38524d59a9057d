package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"sync/atomic"
)

const (
	// freeHeap is the memory in bytes up to which no garbage is collected: collecting the few MiB of a usual tree many times costs a tenth of the time that
	// its image takes.
	freeHeap = 48 << 20
	// lateRatio is how much garbage in percent of what is in use there may be from then on. A tree of 100,000 files is some 30 MiB of long-lived memory;
	// collecting earlier than Go's default costs little and halves the rest.
	lateRatio = 50
)

// collectLate sets how garbage is collected in programs that make one tree and end. The function that it returns undoes that.
func collectLate() (undo func()) {
	limit, ratio := debug.SetMemoryLimit(freeHeap), debug.SetGCPercent(-1)
	ended := new(atomic.Bool)
	// At the limit Go would collect ever more often. The first collection finds this object dead and goes over to the ratio.
	runtime.AddCleanup(new([64]byte), func(ended *atomic.Bool) {
		if !ended.Load() {
			debug.SetGCPercent(lateRatio)
			debug.SetMemoryLimit(math.MaxInt64)
		}
	}, ended)
	return func() {
		ended.Store(true)
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(ratio)
	}
}
