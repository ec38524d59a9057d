package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pagein/pagein/internal/require"
)

// text returns n bytes that compress well and differ for each seed.
func text(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "line %d of a file in a container image\n", r.IntN(1000))
	}
	return b.Bytes()[:n]
}

// noise returns n bytes that do not compress.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

// write makes a blob of files and returns its map, its object and where the files are.
func write(t testing.TB, o WriterOptions, files ...[]byte) (*Map, []byte, []uint64) {
	t.Helper()
	var object bytes.Buffer
	w := NewWriter(context.Background(), &object, o)
	refs := make([]Ref, len(files))
	for i, f := range files {
		ref, err := w.Append(bytes.NewReader(f), int64(len(f)))
		if err != nil {
			t.Fatal(err)
		}
		refs[i] = ref
	}
	m, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if s := w.Stats(); s.Size != m.Size() || s.Frames != m.Frames() || s.Stored != int64(object.Len()) {
		t.Fatalf("stats %+v disagree with a map of %d bytes in %d frames and an object of %d bytes", s, m.Size(), m.Frames(), object.Len())
	}
	blocks := make([]uint64, len(files))
	for i, ref := range refs {
		blocks[i] = w.Block(ref)
	}
	return m, object.Bytes(), blocks
}

// unpack decodes all frames of a map from its only source object.
func unpack(t testing.TB, m *Map, object []byte) []byte {
	t.Helper()
	d, err := NewDecoder(1)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	out := make([]byte, m.Size())
	for i := range m.Frames() {
		f := m.Frame(i)
		if err := d.Decode(out[f.Off:f.Off+int64(f.Len)], object[f.SrcOff:f.SrcOff+int64(f.SrcLen)], f); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func sampleFiles() [][]byte {
	files := [][]byte{text(1, 1), text(4096, 2), text(4097, 3), noise(100, 4), text(64<<10, 5), text(64<<10+1, 6), noise(3<<20+5, 7), text(1<<20, 8), text(2<<20, 9)}
	for i := range 300 {
		files = append(files, text(1+i*211, uint64(100+i)))
		if i%50 == 0 {
			files = append(files, text(70_000+i*5000, uint64(1000+i)))
		}
	}
	return files
}

func TestBlobHoldsEveryFileAtItsBlock(t *testing.T) {
	files := sampleFiles()
	m, object, blocks := write(t, WriterOptions{}, files...)
	data := unpack(t, m, object)
	for i, f := range files {
		at := int(blocks[i]) * BlockSize
		padded := data[at : at+int(roundUp(int64(len(f))))]
		if !bytes.Equal(padded[:len(f)], f) {
			t.Errorf("file %d of %d bytes is not at block %d", i, len(f), blocks[i])
		}
		if !zero(padded[len(f):]) {
			t.Errorf("file %d of %d bytes is not padded with zeros", i, len(f))
		}
	}
}

func TestSmallFileNeverStraddlesFramesAndLargeOnesBeginOne(t *testing.T) {
	files := sampleFiles()
	m, _, blocks := write(t, WriterOptions{}, files...)
	for i, f := range files {
		off := int64(blocks[i]) * BlockSize
		first, last := m.Find(off), m.Find(off+int64(len(f))-1)
		if len(f) <= SmallFile {
			if first != last {
				t.Errorf("file %d of %d bytes lies in frames %d to %d", i, len(f), first, last)
			}
			if n := m.Frame(first).Len; n > SmallFrame {
				t.Errorf("file %d of %d bytes lies in a frame of %d bytes", i, len(f), n)
			}
		} else {
			if got := m.Frame(first).Off; got != off {
				t.Errorf("file %d of %d bytes begins at %d in a frame that begins at %d", i, len(f), off, got)
			}
			if want := (len(f) + LargeFrame - 1) / LargeFrame; last-first+1 != want {
				t.Errorf("file %d of %d bytes lies in %d frames, want %d", i, len(f), last-first+1, want)
			}
		}
	}
}

func TestSmallFrameStaysOpenWhileLargeFilePasses(t *testing.T) {
	m, _, blocks := write(t, WriterOptions{LargeFrame: 1 << 20}, text(100, 1), text(1<<20, 2), text(100, 3))
	if m.Frames() != 2 {
		t.Fatalf("%d frames, want one large and one small", m.Frames())
	}
	if blocks[0] != 256 || blocks[1] != 0 || blocks[2] != 257 {
		t.Errorf("files are at blocks %v, want the large one at 0 and the small ones at 256 and 257", blocks)
	}
}

func TestIncompressibleFramesAreStoredRaw(t *testing.T) {
	m, object, _ := write(t, WriterOptions{LargeFrame: 1 << 20}, noise(1<<20, 1), text(1<<20, 2))
	if c := m.Frame(0).Codec; c != Raw {
		t.Errorf("noise is stored as %v", c)
	}
	if c := m.Frame(1).Codec; c != Zstd {
		t.Errorf("text is stored as %v", c)
	}
	if len(object) >= 3<<19 {
		t.Errorf("object has %d bytes", len(object))
	}
}

func TestObjectOfCompressibleDataIsAZstdStream(t *testing.T) {
	zstd := require.Tool(t, "zstd")
	m, object, _ := write(t, WriterOptions{}, text(5000, 1), text(5<<20+1, 2), text(60_000, 3))
	name := filepath.Join(t.TempDir(), "object.zst")
	if err := os.WriteFile(name, object, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(zstd, "-dc", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out, unpack(t, m, object)) {
		t.Error("zstd -d gives other bytes than the blob's")
	}
	list, err := exec.Command(zstd, "-lv", name).CombinedOutput()
	if err != nil || !strings.Contains(string(list), "Decompressed Size:") {
		t.Errorf("zstd -lv does not find the content size in the frame headers: %v\n%s", err, list)
	}
}

func TestFrameBytesDoNotDependOnEarlierFrames(t *testing.T) {
	_, firstObject, _ := write(t, WriterOptions{}, text(1<<20, 1))
	_, object, _ := write(t, WriterOptions{}, text(2<<20, 2), noise(1<<20, 3), text(1<<20, 1))
	if !bytes.Equal(object[len(object)-len(firstObject):], firstObject) {
		t.Error("the same data was encoded differently by an encoder that was used before")
	}
}

func TestEmptyBlobHasNoFrames(t *testing.T) {
	m, object, _ := write(t, WriterOptions{})
	if m.Frames() != 0 || m.Size() != 0 || len(object) != 0 {
		t.Errorf("%d frames, %d bytes, object of %d bytes", m.Frames(), m.Size(), len(object))
	}
}

// failAfter accepts n bytes and then fails.
type failAfter struct{ n int }

var errFull = errors.New("no space left")

func (f *failAfter) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriterFailsForGood(t *testing.T) {
	errRead := errors.New("bad sector")
	cancelled, cancel := context.WithCancelCause(context.Background())
	errStop := errors.New("interrupted")
	cancel(errStop)
	for name, c := range map[string]struct {
		ctx    context.Context
		object io.Writer
		o      WriterOptions
		r      io.Reader
		size   int64
		want   error // or nil for any
	}{
		"object full":      {object: &failAfter{n: 100}, r: bytes.NewReader(noise(64<<20, 1)), size: 64 << 20, want: errFull},
		"full at the end":  {object: &failAfter{n: 100}, r: bytes.NewReader(noise(5000, 1)), size: 5000, want: errFull},
		"short source":     {r: bytes.NewReader(text(99, 1)), size: 100, want: io.ErrUnexpectedEOF},
		"empty source":     {r: bytes.NewReader(nil), size: 1 << 20, want: io.ErrUnexpectedEOF},
		"unreadable":       {r: iotest.ErrReader(errRead), size: 100, want: errRead},
		"size zero":        {r: bytes.NewReader(nil), size: 0},
		"size negative":    {r: bytes.NewReader(nil), size: -1},
		"size impossible":  {r: bytes.NewReader(nil), size: MaxSize + 1},
		"cancelled":        {ctx: cancelled, r: bytes.NewReader(text(100, 1)), size: 100, want: errStop},
		"odd frame size":   {o: WriterOptions{LargeFrame: 5000}, r: bytes.NewReader(text(100, 1)), size: 100},
		"huge frame":       {o: WriterOptions{LargeFrame: 2 * MaxFrame}, r: bytes.NewReader(text(100, 1)), size: 100},
		"small over frame": {o: WriterOptions{SmallFile: 1 << 20}, r: bytes.NewReader(text(100, 1)), size: 100},
	} {
		t.Run(name, func(t *testing.T) {
			if c.ctx == nil {
				c.ctx = context.Background()
			}
			if c.object == nil {
				c.object = io.Discard
			}
			w := NewWriter(c.ctx, c.object, c.o)
			_, first := w.Append(c.r, c.size)
			m, err := w.Close()
			if err == nil || m != nil {
				t.Fatalf("Close returned %v, %v", m, err)
			}
			if first != nil && first.Error() != err.Error() {
				t.Errorf("Append said %q, Close %q", first, err)
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error is %q, want %q", err, c.want)
			}
			if _, err := w.Append(strings.NewReader("x"), 1); err == nil {
				t.Error("Append after Close succeeded")
			}
			if _, err := w.Close(); err == nil {
				t.Error("second Close succeeded")
			}
		})
	}
}

func TestAppendReadsNothingBeyondSize(t *testing.T) {
	r := bytes.NewReader(text(5000, 1))
	w := NewWriter(context.Background(), io.Discard, WriterOptions{})
	if _, err := w.Append(r, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if r.Len() != 4000 {
		t.Errorf("%d bytes are left in the reader, want 4000", r.Len())
	}
}

func BenchmarkWriter(b *testing.B) {
	for _, size := range []int{8 << 10, 256 << 10, 4 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			data := text(size, 1)
			b.SetBytes(int64(size))
			w := NewWriter(context.Background(), io.Discard, WriterOptions{})
			for b.Loop() {
				if _, err := w.Append(bytes.NewReader(data), int64(size)); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := w.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
