package mkfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
)

// shelf is borrowed blobs, each a byte string, and what is known of them.
type shelf struct {
	blobs [3][]byte
	known map[string]place // content to number and block
}

// put adds a unit to a blob, behind some free blocks.
func (s *shelf) put(number, free int, unit string) {
	b := append(s.blobs[number], make([]byte, free*erofs.BlockSize)...)
	if s.known == nil {
		s.known = map[string]place{}
	}
	d := sha256.Sum256([]byte(unit))
	s.known[string(d[:])] = place{uint16(number), uint32(len(b) / erofs.BlockSize)}
	s.blobs[number] = append(b, unit...)
}

func (s *shelf) Find(digest [32]byte, _ int64) (int, uint64, bool) {
	at, ok := s.known[string(digest[:])]
	return int(at.device), uint64(at.block), ok
}

// sourceOf is a source that consists of files: their data, of which the blocks that are all zeros are holes.
func sourceOf(files []string) Read {
	return func(_ context.Context, l *Layer) error {
		l.tar = &scanned{rules: layerOfStack}
		for i, data := range files {
			var spans []span
			var stored []byte
			for off := 0; off < len(data); off += erofs.BlockSize {
				block := []byte(data[off:min(off+erofs.BlockSize, len(data))])
				if !bytes.Equal(block, make([]byte, len(block))) {
					spans, stored = append(spans, span{int64(off), int64(len(block))}), append(stored, block...)
				}
			}
			name, ino := fileName(data), &erofs.Inode{Mode: 0o100644, Size: int64(len(data))}
			if err := l.add(name, ino, sparse(ino.Size, spans), bytes.NewReader(stored)); err != nil {
				return fmt.Errorf("file %d: %w", i, err)
			}
			l.tar.members = append(l.tar.members, tarMember{name: name, ino: ino})
		}
		return nil
	}
}

func fileName(data string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(data))) }

// content reads all of an own blob.
func (b *Blob) content(t *testing.T) []byte {
	t.Helper()
	d, err := blob.NewDecoder(1)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	all := make([]byte, b.Map.Size())
	for i := range b.Map.Frames() {
		f := b.Map.Frame(i)
		src := make([]byte, f.SrcLen)
		if _, err := b.ReadAt(src, f.SrcOff); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if err := d.Decode(all[f.Off:f.Off+int64(f.Len)], src, f); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// effort is what was done so that no kernel misreads a file.
type effort struct {
	seconds int   // units with a second place
	shifts  int   // extents of zeros that begin at the second block
	blocks  int64 // of own blobs, the zeros for holes left out
	unique  int64 // bytes that the figures call unique
}

// packFiles packs layers that borrow from a shelf and makes sure that all files read back, and that no kernel would misread one.
func packFiles(t *testing.T, s *shelf, layers ...[]string) (done effort) {
	t.Helper()
	p, err := newPacker(t.Context(), PackOptions{
		Frames: blob.WriterOptions{SmallFile: 4096, SmallFrame: 8192, LargeFrame: 8192, Workers: 1}, Order: OrderSource, Known: s, TempDir: t.TempDir(),
	}, len(layers))
	if err != nil {
		t.Fatal(err)
	}
	var reads []Read
	for _, files := range layers {
		reads = append(reads, sourceOf(files))
	}
	err = p.run(t.Context(), reads)
	p.store.Finish()
	defer p.close() // files without names
	if err != nil {
		t.Fatal(err)
	}
	var devices [][]byte
	for _, d := range p.plan.devices {
		if d.Blob == nil {
			devices = append(devices, s.blobs[d.Known])
		} else {
			devices = append(devices, d.Blob.content(t))
			done.blocks += d.Blob.Map.Size() / erofs.BlockSize
		}
	}
	for _, files := range layers {
		for _, data := range files {
			got := make([]byte, len(data))
			extents := p.tree.find(fileName(data)).Extents
			for i, e := range extents {
				copy(got[e.Off:e.Off+e.Len], devices[e.Device-1][e.Block*erofs.BlockSize:])
				if i > 0 && extents[i-1].Device != e.Device && extents[i-1].Block+uint64(extents[i-1].Len/erofs.BlockSize) == e.Block {
					t.Errorf("where %+v ends, the kernel would read on instead of going to %+v", extents[i-1], e)
				}
				if z := p.plan.zeros.at; z.device == e.Device && uint64(z.block)+1 == e.Block {
					done.shifts++
				}
			}
			if string(got) != data {
				t.Errorf("a file of %d bytes, at %+v, reads back differently", len(data), extents)
			}
		}
	}
	for i, f := range p.figures {
		if got := f.Inlined + f.SharedFiles + f.SharedPieces + f.Borrowed + f.Unique; got != f.Data {
			t.Errorf("layer %d: %+v adds up to %d bytes", i, f, got)
		}
		done.unique += f.Unique
	}
	if p.plan.zeros.at.device != 0 {
		done.blocks -= zeroRun/erofs.BlockSize + 2
	}
	done.seconds = len(p.plan.second)
	return done
}

func TestNoFileGoesOnAtTheSameBlockOfAnotherDevice(t *testing.T) {
	const frame = 8192
	piece := func(i int) string { return noise(i, frame) }
	hole := string(make([]byte, frame))
	borrowed := func(first, second int) *shelf { // 1 in one blob, ending where 2 to 4 begin in another
		s := &shelf{}
		s.put(0, first, piece(1))
		s.put(1, second, piece(2))
		s.put(1, 0, piece(3))
		s.put(1, 0, piece(4))
		return s
	}
	for name, c := range map[string]struct {
		shelf  *shelf
		layers [][]string
		want   effort
	}{
		"first piece of a borrowed file changed": {borrowed(9, 2), [][]string{{piece(11) + piece(2) + piece(3) + piece(4)}}, effort{1, 0, 2 + 1 + 2, 2 * frame}},
		"first piece of a lower file changed":    {&shelf{}, [][]string{{piece(1) + piece(2) + piece(3)}, {piece(11) + piece(2) + piece(3)}}, effort{1, 0, 6 + 2 + 1 + 2, 5 * frame}},
		"both borrowed":                          {borrowed(0, 2), [][]string{{piece(1) + piece(2) + piece(3)}}, effort{1, 0, 2, frame}},
		"new data behind borrowed":               {borrowed(0, 9), [][]string{{piece(11), piece(1) + piece(12) + piece(13)}}, effort{1, 0, 6 + 2, 3 * frame}},
		"the same again in a layer above":        {borrowed(0, 2), [][]string{{piece(1) + piece(2) + piece(3)}, {piece(1) + piece(2) + piece(3) + "more"}}, effort{1, 0, 2 + 3, 2*frame + 4}},
		"zeros behind borrowed":                  {borrowed(0, 9), [][]string{{piece(11), piece(1) + hole + piece(12)}}, effort{0, 1, 4, 2 * frame}},
		"borrowed behind zeros":                  {borrowed(0, 2), [][]string{{hole + piece(2)}}, effort{1, 0, 2, frame}},
		"a long hole behind borrowed": {
			borrowed(0, 9), [][]string{{piece(11), string(make([]byte, zeroRun-frame)) + piece(1) + string(make([]byte, zeroRun)) + piece(12)}}, effort{0, 1, 4, 2 * frame},
		},
		"nothing of the kind": {borrowed(9, 9), [][]string{{piece(11), piece(1) + piece(2) + hole + piece(12)}}, effort{0, 0, 4, 2 * frame}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := packFiles(t, c.shelf, c.layers...); got != c.want {
				t.Errorf("done %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestFilesOfManyDevicesAreNeverMisread(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	seconds, shifts := 0, 0
	for run := range 60 {
		var parts []string
		s := &shelf{}
		for i := range 30 {
			parts = append(parts, noise(1000*run+i, 4096<<r.IntN(2)))
			if r.IntN(2) == 0 {
				s.put(r.IntN(len(s.blobs)), r.IntN(2), parts[i])
			}
		}
		parts = append(parts, string(make([]byte, 8192)))
		layers := make([][]string, 3)
		for n := range layers {
			for range 8 {
				data := ""
				for range 1 + r.IntN(6) {
					data += parts[r.IntN(len(parts))]
				}
				layers[n] = append(layers[n], data)
			}
		}
		done := packFiles(t, s, layers...)
		seconds, shifts = seconds+done.seconds, shifts+done.shifts
	}
	if seconds < 20 || shifts < 2 {
		t.Errorf("%d second places and %d moved zeros: too little was tried", seconds, shifts)
	}
}
