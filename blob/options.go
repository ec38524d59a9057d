package blob

import (
	"fmt"
	"runtime"
)

// Defaults of WriterOptions, in bytes.
const (
	// SmallFile is the size up to which files are gathered in common frames.
	SmallFile = 64 << 10
	// SmallFrame is the size of the frames that hold small files: few enough bytes to fetch for one of them, enough to compress well.
	SmallFrame = 128 << 10
	// LargeFrame is the size of the frames that larger files are cut into: a miss verifies and writes a whole frame, whatever was asked for, and what requests
	// for few bytes cost on a slow link, read-ahead makes up for. Frames of 1 MiB would save 2 % of the object.
	LargeFrame = 128 << 10

	// BestSmallFrame and BestLargeFrame are the same at [LevelBest]: who spends ten times the work on 8 % of the bytes also wants the 4 % that longer frames save.
	BestSmallFrame = 256 << 10
	BestLargeFrame = 1 << 20

	// MaxWorkers is how many workers there are at most by default: each needs some MiB, and more than that outrun what one machine inflates and stores.
	MaxWorkers = 8
)

// WriterOptions say how blobs are made. They all are part of "the same input": other values give another blob. Zero values stand for the
// defaults. Workers alone changes nothing but speed.
type WriterOptions struct {
	SmallFile  int // bytes, at most SmallFrame
	SmallFrame int // bytes, a multiple of BlockSize up to MaxFrame
	LargeFrame int // bytes, a multiple of BlockSize up to MaxFrame
	Level      Level
	Workers    int // frames compressed at the same time where that is done in parallel, by default GOMAXPROCS up to MaxWorkers
}

// Complete puts defaults in the place of zero values, and refuses values that make no sense.
func (o WriterOptions) Complete() (WriterOptions, error) {
	small, large := SmallFrame, LargeFrame
	if o.Level == LevelBest {
		small, large = BestSmallFrame, BestLargeFrame
	}
	for _, d := range []struct {
		v   *int
		def int
	}{{&o.SmallFile, SmallFile}, {&o.SmallFrame, small}, {&o.LargeFrame, large}, {&o.Workers, min(runtime.GOMAXPROCS(0), MaxWorkers)}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	for _, n := range []int{o.SmallFrame, o.LargeFrame} {
		if n < 0 || n > MaxFrame || n%BlockSize != 0 {
			return o, fmt.Errorf("frame size %d is not a multiple of %d up to %d", n, BlockSize, MaxFrame)
		}
	}
	if o.SmallFile < 0 || o.SmallFile > o.SmallFrame {
		return o, fmt.Errorf("small file size %d is not between 1 and the small frame size %d", o.SmallFile, o.SmallFrame)
	}
	if int(o.Level) >= len(levels) {
		return o, fmt.Errorf("there is no compression %v", o.Level)
	}
	if o.Workers < 0 {
		return o, fmt.Errorf("%d workers are too few", o.Workers)
	}
	return o, nil
}
