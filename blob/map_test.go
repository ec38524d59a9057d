package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// sampleMap has two source objects and three frames.
func sampleMap(t testing.TB) *Map {
	t.Helper()
	m, err := NewMap([]int64{5000, 10_000}, []Frame{
		{Off: 0, Len: 8192, Source: 0, SrcOff: 0, SrcLen: 100, Codec: Zstd, Digest: [32]byte{1}},
		{Off: 8192, Len: 4096, Source: 1, SrcOff: 10_000 - 4096, SrcLen: 4096, Codec: Raw, Digest: [32]byte{2}},
		{Off: 12288, Len: MaxFrame, Source: 0, SrcOff: 100, SrcLen: 4900, Codec: Zstd, Digest: [32]byte{3}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMapGivesBackItsFrames(t *testing.T) {
	m := sampleMap(t)
	if m.Frames() != 3 || m.Sources() != 2 || m.Size() != 12288+MaxFrame {
		t.Fatalf("%d frames, %d sources, %d bytes", m.Frames(), m.Sources(), m.Size())
	}
	if m.SourceSize(0) != 5000 || m.SourceSize(1) != 10_000 {
		t.Errorf("source sizes %d and %d", m.SourceSize(0), m.SourceSize(1))
	}
	want := Frame{Off: 8192, Len: 4096, Source: 1, SrcOff: 5904, SrcLen: 4096, Codec: Raw, Digest: [32]byte{2}}
	if got := m.Frame(1); got != want {
		t.Errorf("frame 1 is %+v, want %+v", got, want)
	}
	if sum := sha256.Sum256(m.Bytes()); m.ID() != hex.EncodeToString(sum[:]) {
		t.Errorf("ID is %s, want the SHA-256 of the bytes", m.ID())
	}
}

func TestFindGivesTheFrameThatHoldsTheByte(t *testing.T) {
	m := sampleMap(t)
	for off, want := range map[int64]int{-1: -1, 0: 0, 8191: 0, 8192: 1, 12287: 1, 12288: 2, m.Size() - 1: 2, m.Size(): -1, 1 << 62: -1} {
		if got := m.Find(off); got != want {
			t.Errorf("Find(%d) = %d, want %d", off, got, want)
		}
	}
	empty, err := NewMap(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := empty.Find(0); got != -1 {
		t.Errorf("Find(0) in an empty blob = %d", got)
	}
}

func TestParseRefusesWhatIsWrongAndSaysWhere(t *testing.T) {
	le := binary.LittleEndian
	source := func(i int) int { return headerLen + i*sourceLen }
	frame := func(i int) int { return headerLen + 2*sourceLen + i*frameLen }
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"empty":              {func([]byte) []byte { return nil }, "shorter than the header"},
		"cut header":         {func(b []byte) []byte { return b[:63] }, "shorter than the header"},
		"cut record":         {func(b []byte) []byte { return b[:len(b)-1] }, "need 288 bytes"},
		"trailing byte":      {func(b []byte) []byte { return append(b, 0) }, "need 288 bytes"},
		"magic":              {func(b []byte) []byte { b[0] = 'X'; return b }, "magic"},
		"version":            {func(b []byte) []byte { b[offVersion] = 2; return b }, "version is 2"},
		"frame count":        {func(b []byte) []byte { le.PutUint32(b[offFrames:], 1<<32-1); return b }, "4294967295 frames need"},
		"source count":       {func(b []byte) []byte { le.PutUint32(b[offSources:], 1<<16); return b }, "65536 source objects"},
		"header reserved":    {func(b []byte) []byte { b[offReserved] = 1; return b }, "reserved header bytes"},
		"header unused":      {func(b []byte) []byte { b[offCRC-1] = 1; return b }, "reserved header bytes"},
		"size odd":           {func(b []byte) []byte { b[offSize]++; return b }, "blob size"},
		"size absurd":        {func(b []byte) []byte { le.PutUint64(b[offSize:], 1<<63); return b }, "blob size"},
		"size beyond":        {func(b []byte) []byte { le.PutUint64(b[offSize:], 12288+2*MaxFrame); return b }, "before the blob's end"},
		"size short":         {func(b []byte) []byte { le.PutUint64(b[offSize:], 12288); return b }, "frame 2: ends at"},
		"source size":        {func(b []byte) []byte { le.PutUint64(b[source(1):], 1<<63); return b }, "source 1: size"},
		"source reserved":    {func(b []byte) []byte { b[source(1)+srcReserved] = 1; return b }, "source 1: reserved"},
		"gap":                {func(b []byte) []byte { le.PutUint64(b[frame(1):], 12288); return b }, "frame 1: blob offset is 12288"},
		"overlap":            {func(b []byte) []byte { le.PutUint64(b[frame(1):], 4096); return b }, "frame 1: blob offset is 4096"},
		"late start":         {func(b []byte) []byte { le.PutUint64(b[frame(0):], 4096); return b }, "frame 0: blob offset is 4096"},
		"offset overflow":    {func(b []byte) []byte { le.PutUint64(b[frame(2):], 1<<64-4096); return b }, "frame 2: blob offset"},
		"length zero":        {func(b []byte) []byte { le.PutUint32(b[frame(1)+frLen:], 0); return b }, "frame 1: length 0"},
		"length odd":         {func(b []byte) []byte { le.PutUint32(b[frame(1)+frLen:], 4097); return b }, "frame 1: length 4097"},
		"length absurd":      {func(b []byte) []byte { le.PutUint32(b[frame(2)+frLen:], MaxFrame+4096); return b }, "frame 2: length"},
		"raw length":         {func(b []byte) []byte { le.PutUint32(b[frame(1)+frSrcLen:], 4095); return b }, "frame 1: raw frame"},
		"source length zero": {func(b []byte) []byte { le.PutUint32(b[frame(0)+frSrcLen:], 0); return b }, "frame 0: source length 0"},
		"source length huge": {func(b []byte) []byte { le.PutUint32(b[frame(0)+frSrcLen:], 10_000); return b }, "frame 0: source length 10000"},
		"codec":              {func(b []byte) []byte { b[frame(0)+frCodec] = 9; return b }, "frame 0: codec 9"},
		"source index":       {func(b []byte) []byte { b[frame(0)+frSource] = 2; return b }, "frame 0: source 2 does not exist"},
		"source range":       {func(b []byte) []byte { le.PutUint64(b[frame(2)+frSrcOff:], 101); return b }, "frame 2: source range 101+4900"},
		"source overflow":    {func(b []byte) []byte { le.PutUint64(b[frame(2)+frSrcOff:], 1<<64-1); return b }, "frame 2: source range"},
		"source too small":   {func(b []byte) []byte { le.PutUint64(b[source(0):], 99); return b }, "frame 0: source range"},
		"frame reserved":     {func(b []byte) []byte { b[frame(2)+frReserved+4] = 1; return b }, "frame 2: reserved"},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.change(bytes.Clone(sampleMap(t).Bytes()))
			if len(b) >= headerLen {
				le.PutUint32(b[offCRC:], checksum(b))
			}
			_, err := Parse(b)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestParseNoticesEveryFlippedBit(t *testing.T) {
	good := sampleMap(t).Bytes()
	for i := range len(good) * 8 {
		b := bytes.Clone(good)
		b[i/8] ^= 1 << (i % 8)
		if _, err := Parse(b); err == nil {
			t.Fatalf("bit %d of byte %d flipped and nobody noticed", i%8, i/8)
		}
	}
}

func TestNewMapRefusesValuesThatDoNotFit(t *testing.T) {
	good := Frame{Len: 4096, SrcLen: 4096}
	for name, change := range map[string]func(f *Frame){
		"negative offset":        func(f *Frame) { f.Off = -4096 },
		"huge offset":            func(f *Frame) { f.Off = MaxSize },
		"negative length":        func(f *Frame) { f.Len = -1 },
		"huge length":            func(f *Frame) { f.Len = 1<<32 + 4096 },
		"negative source":        func(f *Frame) { f.Source = -1 },
		"huge source":            func(f *Frame) { f.Source = 1 << 16 },
		"negative source offset": func(f *Frame) { f.SrcOff = -1 },
		"huge source length":     func(f *Frame) { f.SrcLen = 1<<32 + 4096 },
	} {
		t.Run(name, func(t *testing.T) {
			f := good
			change(&f)
			if _, err := NewMap([]int64{4096}, []Frame{f}); err == nil {
				t.Errorf("%+v is accepted", f)
			}
		})
	}
	if _, err := NewMap([]int64{-1}, nil); err == nil {
		t.Error("a source of negative size is accepted")
	}
}

// goldenFiles is the input of the golden vectors of docs/format.md.
func goldenFiles() [][]byte {
	return [][]byte{
		[]byte("hello, world\n"),
		bytes.Repeat([]byte("0123456789abcdef"), 5000),
		noise(73_728, 42),
	}
}

func TestGoldenVectors(t *testing.T) {
	m, object, blocks := write(t, WriterOptions{}, goldenFiles()...)
	if want := []uint64{38, 0, 20}; blocks[0] != want[0] || blocks[1] != want[1] || blocks[2] != want[2] {
		t.Errorf("files are at blocks %v, want %v", blocks, want)
	}
	for name, got := range map[string][]byte{"golden.map": m.Bytes(), "golden.object": object} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes differ from the golden %d", name, len(got), len(want))
		}
	}
}

func TestDocumentShowsTheGoldenVectors(t *testing.T) {
	doc, err := os.ReadFile("../docs/format.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"golden.map", "golden.object"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(b); !strings.Contains(string(doc), hex.EncodeToString(sum[:])) {
			t.Errorf("docs/format.md does not show the SHA-256 of %s, %x", name, sum)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sampleMap(f).Bytes())
	f.Add([]byte(magic))
	empty, err := NewMap(nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(empty.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= headerLen { // let the fuzzer get behind the checksum
			b = bytes.Clone(b)
			binary.LittleEndian.PutUint32(b[offCRC:], checksum(b))
		}
		m, err := Parse(b)
		if err != nil {
			return
		}
		var end int64
		frames := make([]Frame, m.Frames())
		sizes := make([]int64, m.Sources())
		for i := range sizes {
			sizes[i] = m.SourceSize(i)
		}
		for i := range frames {
			fr := m.Frame(i)
			if fr.Off != end || fr.Len <= 0 || fr.Len > MaxFrame || fr.SrcOff < 0 || fr.SrcLen <= 0 || fr.SrcOff+int64(fr.SrcLen) > sizes[fr.Source] {
				t.Fatalf("frame %d is %+v", i, fr)
			}
			end += int64(fr.Len)
			if m.Find(fr.Off) != i || m.Find(end-1) != i {
				t.Fatalf("frame %d is not found", i)
			}
			frames[i] = fr
		}
		again, err := NewMap(sizes, frames)
		if err != nil || !bytes.Equal(again.Bytes(), b) {
			t.Fatalf("the map's own frames make another map: %v", err)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	frames := make([]Frame, 1<<17) // 16 GiB in frames of 128 KiB
	for i := range frames {
		frames[i] = Frame{Off: int64(i) << 17, Len: 1 << 17, SrcLen: 100, Codec: Zstd}
	}
	m, err := NewMap([]int64{100}, frames)
	if err != nil {
		b.Fatal(err)
	}
	var off int64
	for b.Loop() {
		off = (off + 0x1e3779b97f4a7000) & (m.Size() - 1)
		m.Find(off)
	}
}

func BenchmarkParse(b *testing.B) {
	frames := make([]Frame, 1<<13) // 1 GiB in frames of 128 KiB
	for i := range frames {
		frames[i] = Frame{Off: int64(i) << 17, Len: 1 << 17, SrcLen: 100, Codec: Zstd}
	}
	m, err := NewMap([]int64{100}, frames)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(m.Bytes())))
	for b.Loop() {
		if _, err := Parse(m.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}
