package blob

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"testing"
)

// program returns n bytes of a machine-code program: this test.
func program(t testing.TB, n int) []byte {
	t.Helper()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := make([]byte, n)
	if _, err := file.ReadAt(b, 64<<10); err != nil {
		t.Fatal(err)
	}
	return b
}

// letters returns n bytes without repetition, of an alphabet.
func letters(n int, alphabet string) []byte {
	b := noise(n, 1)
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return b
}

// gzipped returns n bytes of a compressed program.
func gzipped(t testing.TB, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(program(t, 8*n)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()[:n]
}

func newTestEncoder(t testing.TB, level Level) *Encoder {
	t.Helper()
	e, err := NewEncoder(level, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

var allLevels = []Level{LevelFast, LevelDefault, LevelBest}

func TestWhatCompressesIsNotMissedAndWhatDoesNotIsRaw(t *testing.T) {
	const size = 128 << 10
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, tc := range []struct {
		name  string
		frame []byte
		most  float64 // stored bytes per byte; 1: raw
	}{
		{"text", text(size, 1), 0.2},
		{"text, one block", text(BlockSize, 1), 0.4},
		{"program", program(t, size), 0.7},
		{"zeros", make([]byte, size), 0.001},
		{"noise", noise(size, 1), 1},
		{"noise, one block", noise(BlockSize, 1), 1},
		{"noise but for padding", join(noise(size-3*BlockSize, 1), make([]byte, 3*BlockSize)), 0.92},
		{"gzip", gzipped(t, size), 1},
		{"random digits", letters(size, "0123456789"), 0.47},
		{"random base64", letters(size, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"), 0.77},
		{"noise, then text", join(noise(size/2, 1), text(size/2, 1)), 0.62},
		{"noise, then a program", join(noise(size/2, 1), program(t, size/2)), 0.93},
		{"text, then noise", join(text(size/2, 1), noise(size/2, 1)), 0.62},
		{"noise, text, noise", join(noise(size*3/8, 1), text(size/4, 1), noise(size*3/8, 2)), 0.9},
		{"a large frame that ends in text", join(noise(7*size, 1), text(size, 1)), 0.92},
		{"noise twice", join(noise(size/2, 1), noise(size/2, 1)), 0.55},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, level := range allLevels {
				stored, codec := newTestEncoder(t, level).Encode(nil, tc.frame)
				if got := float64(len(stored)) / float64(len(tc.frame)); got > tc.most {
					t.Errorf("%v: %.3f of the frame is stored, want at most %.3f", level, got, tc.most)
				}
				if raw := codec == Raw; raw != (tc.most == 1) || raw && &stored[0] != &tc.frame[0] {
					t.Errorf("%v: codec %d with %d of %d bytes", level, codec, len(stored), len(tc.frame))
				}
			}
		})
	}
}

func TestEncodingDoesNotDependOnEarlierFrames(t *testing.T) {
	frames := [][]byte{text(128<<10, 1), noise(64<<10, 2), program(t, 1<<20), text(5000, 3), make([]byte, 1<<20), gzipped(t, 128<<10), text(128<<10, 1)}
	for _, level := range allLevels {
		used := newTestEncoder(t, level)
		var buf []byte
		for i, frame := range frames {
			buf = make([]byte, 0, EncodeBuffer(len(frame)))
			got, gotCodec := used.Encode(buf, frame)
			want, wantCodec := newTestEncoder(t, level).Encode(nil, frame)
			if gotCodec != wantCodec || !bytes.Equal(got, want) {
				t.Errorf("%v: frame %d gives other bytes after others", level, i)
			}
			if gotCodec == Zstd && &got[0] != &buf[:1][0] {
				t.Errorf("%v: frame %d is not in the buffer", level, i)
			}
		}
	}
}

func TestEveryLevelIsReadable(t *testing.T) {
	for _, level := range allLevels {
		m, object, _ := write(t, WriterOptions{Level: level}, sampleFiles()...)
		unpack(t, m, object)
	}
}

func TestHigherLevelsGiveSmallerFrames(t *testing.T) {
	frame := program(t, 1<<20)
	last := len(frame)
	for _, level := range allLevels {
		stored, _ := newTestEncoder(t, level).Encode(nil, frame)
		if len(stored) >= last {
			t.Errorf("%v: %d bytes, the level below %d", level, len(stored), last)
		}
		last = len(stored)
	}
}

func TestLevelsAreKnownByName(t *testing.T) {
	for _, level := range allLevels {
		if got, err := ParseLevel(level.String()); err != nil || got != level {
			t.Errorf("ParseLevel(%q) = %v, %v", level.String(), got, err)
		}
	}
	for _, name := range []string{"", "9", "Best"} {
		if _, err := ParseLevel(name); err == nil {
			t.Errorf("ParseLevel(%q) succeeds", name)
		}
	}
}

func TestEncodersRefuseWhatTheyCannotDo(t *testing.T) {
	for _, tc := range []struct {
		level    Level
		maxFrame int
	}{{LevelBest + 1, BlockSize}, {LevelDefault, 0}, {LevelDefault, MaxFrame + 1}} {
		if _, err := NewEncoder(tc.level, tc.maxFrame); err == nil {
			t.Errorf("NewEncoder(%v, %d) succeeds", tc.level, tc.maxFrame)
		}
	}
}

// BenchmarkEncode shows that what does not compress costs little.
func BenchmarkEncode(b *testing.B) {
	for _, level := range allLevels {
		for _, data := range []struct {
			name  string
			frame []byte
		}{{"text", text(128<<10, 1)}, {"program", program(b, 128<<10)}, {"noise", noise(128<<10, 1)}, {"gzip", gzipped(b, 128<<10)}} {
			b.Run(fmt.Sprintf("%v/%s", level, data.name), func(b *testing.B) {
				e := newTestEncoder(b, level)
				buf := make([]byte, 0, EncodeBuffer(len(data.frame)))
				b.SetBytes(int64(len(data.frame)))
				for b.Loop() {
					e.Encode(buf, data.frame)
				}
			})
		}
	}
}
