package blob

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// minGain is the part of a frame, 1/minGain, that compression must save; otherwise the frame is stored raw, and reading it costs no
// decompression.
const minGain = 32

// Level says how much time may be spent on making frames small. What they cost to decode is the same. The level is part of "the same input":
// another one gives another object.
type Level uint8

// Levels. On one core, text and programs are compressed at some 250, 150 and 15 MB/s; what does not compress passes at some 3 GB/s.
const (
	LevelDefault Level = iota
	LevelFast
	LevelBest
)

// levels has names as people write them, and how hard klauspost's encoder tries.
var levels = [...]struct {
	name string
	zstd zstd.EncoderLevel
}{
	LevelDefault: {"default", zstd.SpeedDefault},
	LevelFast:    {"fast", zstd.SpeedFastest},
	LevelBest:    {"best", zstd.SpeedBestCompression},
}

// ParseLevel returns the level that is called fast, default or best.
func ParseLevel(name string) (Level, error) {
	for i, l := range levels {
		if l.name == name {
			return Level(i), nil
		}
	}
	return 0, fmt.Errorf("compression level %q is unknown: choose fast, default or best", name)
}

// String returns the name that ParseLevel takes.
func (l Level) String() string {
	if int(l) >= len(levels) {
		return fmt.Sprintf("Level(%d)", uint8(l))
	}
	return levels[l].name
}

// Encoder makes of frames what is stored. The same frame gives the same bytes whatever was encoded before. An Encoder is for one goroutine at a
// time, has some MiB of tables, 40 MiB at the best level, and must be closed.
type Encoder struct {
	quick *zstd.Encoder // of a level that passes over what does not compress
	best  *zstd.Encoder // or nil
	spare []byte        // what the best level made of the last frame
}

// NewEncoder returns an encoder for frames of up to maxFrame bytes, at most MaxFrame.
func NewEncoder(level Level, maxFrame int) (*Encoder, error) {
	if int(level) >= len(levels) {
		return nil, fmt.Errorf("make encoder: there is no %v", level)
	}
	if maxFrame <= 0 || maxFrame > MaxFrame {
		return nil, fmt.Errorf("make encoder: frames of %d bytes are not between 1 and %d", maxFrame, MaxFrame)
	}
	e := &Encoder{}
	var err error
	if level != LevelBest {
		e.quick, err = newZstd(levels[level].zstd, maxFrame)
		return e, err
	}
	if e.quick, err = newZstd(levels[LevelDefault].zstd, maxFrame); err != nil {
		return nil, err
	}
	e.best, err = newZstd(levels[LevelBest].zstd, maxFrame)
	return e, err
}

// newZstd returns an encoder whose frames state their size and need no more memory to decode than that.
func newZstd(level zstd.EncoderLevel, maxFrame int) (*zstd.Encoder, error) {
	window := zstd.MinWindowSize
	for window < maxFrame {
		window <<= 1
	}
	z, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(level),
		zstd.WithWindowSize(window),
		zstd.WithSingleSegment(true),
		zstd.WithAllLitEntropyCompression(true),
		zstd.WithEncoderCRC(false)) // the map has SHA-256
	if err != nil {
		return nil, fmt.Errorf("make zstd encoder for frames of %d bytes: %w", maxFrame, err)
	}
	return z, nil
}

// EncodeBuffer is the capacity of a buffer that Encode needs for a frame of n bytes.
func EncodeBuffer(n int) int { return maxSrcLen(n) }

// Encode returns what is stored of a frame, and how it is encoded: as a zstd frame in buf's memory, or raw, which is the frame itself. A buffer
// of less than [EncodeBuffer] bytes' capacity costs an allocation.
//
// The default level's encoder looks at ever fewer places of a frame in which it finds no repetition, and gives up on bytes that are
// equally frequent: at 20 times its usual pace it is the cheapest detector of data that does not compress. The best level's encoder looks
// everywhere, so it gets only what the default one could shorten.
func (e *Encoder) Encode(buf, frame []byte) ([]byte, Codec) {
	packed := e.quick.EncodeAll(frame, buf[:0])
	if len(packed) > len(frame)-len(frame)/minGain {
		return frame, Raw
	}
	if e.best == nil {
		return packed, Zstd
	}
	e.spare = e.best.EncodeAll(frame, e.spare[:0])
	if len(e.spare) < len(packed) {
		packed = append(packed[:0], e.spare...)
	}
	return packed, Zstd
}

// Close frees what the encoder holds.
func (e *Encoder) Close() {
	// An encoder that is used for whole frames only has nothing to flush, and so nothing that could fail.
	_ = e.quick.Close()
	if e.best != nil {
		_ = e.best.Close()
	}
}
