package blob

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func newDecoder(t testing.TB) *Decoder {
	t.Helper()
	d, err := NewDecoder(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// pack returns a frame of data and its source bytes.
func pack(t testing.TB, data []byte, opts ...zstd.EOption) (Frame, []byte) {
	t.Helper()
	enc, err := zstd.NewWriter(nil, append(opts, zstd.WithEncoderConcurrency(1))...)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	src := enc.EncodeAll(data, nil)
	return Frame{Len: len(data), SrcLen: len(src), Codec: Zstd, Digest: sha256.Sum256(data)}, src
}

func TestDecoderGivesOnlyVerifiedBytes(t *testing.T) {
	d, data := newDecoder(t), text(128<<10, 1)
	good, src := pack(t, data)
	raw := Frame{Len: len(data), SrcLen: len(data), Codec: Raw, Digest: good.Digest}
	long, longSrc := pack(t, text(256<<10, 1))
	long.Len, long.Digest = len(data), good.Digest
	bomb, bombSrc := pack(t, make([]byte, 64<<20))
	bomb.Len = 4096
	short, shortSrc := pack(t, data[:4096])
	short.Len, short.Digest = len(data), good.Digest
	cut := good
	cut.SrcLen--
	for name, c := range map[string]struct {
		f    Frame
		src  []byte
		good bool
	}{
		"zstd":               {good, src, true},
		"raw":                {raw, data, true},
		"raw flipped":        {raw, flip(data, 77), false},
		"zstd flipped":       {good, flip(src, len(src)/2), false},
		"header flipped":     {good, flip(src, 0), false},
		"decodes to more":    {long, longSrc, false},
		"decodes to less":    {short, shortSrc, false},
		"bomb":               {bomb, bombSrc, false},
		"cut":                {cut, src[:len(src)-1], false},
		"raw of other bytes": {raw, text(128<<10, 2), false},
	} {
		t.Run(name, func(t *testing.T) {
			dst := make([]byte, c.f.Len)
			err := d.Decode(dst, c.src, c.f)
			switch {
			case c.good && err != nil:
				t.Fatal(err)
			case c.good && !bytes.Equal(dst, data):
				t.Error("other bytes than the frame's")
			case !c.good && !errors.Is(err, ErrCorrupt):
				t.Errorf("error is %v, want ErrCorrupt", err)
			}
		})
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x10
	return b
}

func TestDecoderRefusesBuffersOfOtherLengths(t *testing.T) {
	d := newDecoder(t)
	f, src := pack(t, text(8192, 1))
	for _, err := range []error{
		d.Decode(make([]byte, 4096), src, f),
		d.Decode(make([]byte, 8192), src[1:], f),
		d.Decode(make([]byte, 8192), src, Frame{Len: 8192, SrcLen: len(src), Codec: 7}),
	} {
		if err == nil || errors.Is(err, ErrCorrupt) {
			t.Errorf("error is %v, want one that does not blame the source", err)
		}
	}
}

func TestDecoderReadsFramesOfOtherEncoders(t *testing.T) {
	d, data := newDecoder(t), text(1<<20, 1)
	for _, opts := range [][]zstd.EOption{
		{zstd.WithEncoderCRC(true)},
		{zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(64 << 20)},
		{zstd.WithSingleSegment(true)},
	} {
		f, src := pack(t, data, opts...)
		if err := d.Decode(make([]byte, f.Len), src, f); err != nil {
			t.Error(err)
		}
	}
	one, oneSrc := pack(t, data[:4096])
	two, twoSrc := pack(t, data[4096:8192])
	both := Frame{Len: one.Len + two.Len, SrcLen: one.SrcLen + two.SrcLen, Codec: Zstd, Digest: sha256.Sum256(data[:8192])}
	if err := d.Decode(make([]byte, both.Len), append(oneSrc, twoSrc...), both); err != nil {
		t.Errorf("two zstd frames in one: %v", err)
	}
}

func TestDecoderIsSafeForConcurrentUse(t *testing.T) {
	d := newDecoder(t)
	var wg sync.WaitGroup
	for seed := range uint64(16) {
		data := text(100<<10, seed)[:96<<10]
		f, src := pack(t, data)
		wg.Go(func() {
			dst := make([]byte, f.Len)
			for range 20 {
				clear(dst)
				if err := d.Decode(dst, src, f); err != nil || !bytes.Equal(dst, data) {
					t.Errorf("frame of seed %d: %v", seed, err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzDecode(f *testing.F) {
	for _, data := range [][]byte{text(4096, 1), make([]byte, 8192), noise(4096, 2)} {
		_, src := pack(f, data)
		f.Add(src, uint8(len(data)/BlockSize))
	}
	d, err := NewDecoder(1)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, src []byte, blocks uint8) {
		n := int(blocks) * BlockSize
		if n == 0 {
			return
		}
		buf := make([]byte, n+BlockSize)
		dst := buf[:n]
		if err := d.Decode(dst, src, Frame{Len: n, SrcLen: len(src), Codec: Zstd}); err == nil {
			t.Fatal("a digest of zeros was matched")
		}
		if !zero(buf[n:]) {
			t.Fatal("bytes beyond the frame were written")
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	d := newDecoder(b)
	for name, data := range map[string][]byte{"zstd128KiB": text(128<<10, 1), "raw128KiB": noise(128<<10, 1), "zstd1MiB": text(1<<20, 1)} {
		b.Run(name, func(b *testing.B) {
			f, src := pack(b, data)
			if name[0] == 'r' {
				f.Codec, f.SrcLen, src = Raw, f.Len, data
			}
			dst := make([]byte, f.Len)
			b.SetBytes(int64(f.Len))
			for b.Loop() {
				if err := d.Decode(dst, src, f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
