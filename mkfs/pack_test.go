package mkfs

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/tartest"
)

// packed packs tars as layers.
func packed(t testing.TB, o PackOptions, layers ...[]tartest.Member) *Packed {
	t.Helper()
	o.TempDir = t.TempDir()
	var reads []Read
	for _, members := range layers {
		stream := tartest.Archive(t, members...)
		reads = append(reads, func(ctx context.Context, l *Layer) error { return l.ReadLayer(ctx, bytes.NewReader(stream)) })
	}
	p, err := Pack(t.Context(), o, reads...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// noise is data that nothing else is like.
func noise(seed, size int) string {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b) // cannot fail
	return string(b)
}

// inode finds a file of a finished tree.
func (p *Packed) inode(t testing.TB, path string) *erofs.Inode {
	t.Helper()
	n := p.find(path)
	if n == nil {
		t.Fatalf("%s is missing", path)
	}
	return n
}

// byPlace sorts files by where their data begins.
func (p *Packed) byPlace(t testing.TB, paths ...string) []string {
	t.Helper()
	slices.SortFunc(paths, func(a, b string) int {
		x, y := p.inode(t, a).Extents[0], p.inode(t, b).Extents[0]
		return int(x.Device)<<40 + int(x.Block) - int(y.Device)<<40 - int(y.Block)
	})
	return paths
}

func TestOrderOfDataIsAPolicy(t *testing.T) {
	var members []tartest.Member
	names := []string{"z", "b/c/x", "b/y", "a/k/k", "b/c/a", "a/z", "b-b"}
	for i, name := range names {
		members = append(members, tartest.File([]string{"./", "", "/"}[i%3]+name, noise(i, 3000)))
	}
	for order, want := range map[Order][]string{
		OrderSource: names,
		OrderDir:    {"b-b", "z", "a/z", "a/k/k", "b/y", "b/c/a", "b/c/x"},
	} {
		p := packed(t, PackOptions{Order: order}, members)
		if got := p.byPlace(t, slices.Clone(names)...); !slices.Equal(got, want) {
			t.Errorf("%v: %v, want %v", order, got, want)
		}
		if again, err := ParseOrder(order.String()); err != nil || again != order {
			t.Errorf("%v is parsed as %v, %v", order, again, err)
		}
	}
	if _, err := ParseOrder("random"); err == nil {
		t.Error("an order that does not exist was accepted")
	}
}

// find returns the inode of a path.
func (t *Tree) find(path string) *erofs.Inode {
	n := t.root
	for part := range strings.SplitSeq(path, "/") {
		i := slices.IndexFunc(n.Entries, func(e erofs.Dirent) bool { return e.Name == part })
		if i < 0 {
			return nil
		}
		n = n.Entries[i].Inode
	}
	return n
}

func TestFilesLieInFramesAsPromised(t *testing.T) {
	var members []tartest.Member
	for i := range 300 {
		members = append(members, tartest.File(fmt.Sprint("d/", i), noise(i, 600+i*300)))
	}
	p := packed(t, PackOptions{}, members)
	m := p.Layers[0].Blob.Map
	for i := range 300 {
		n := p.inode(t, fmt.Sprint("d/", i))
		if len(n.Extents) != 1 || n.Extents[0].Len != n.Size {
			t.Fatalf("a file of %d bytes lies at %v", n.Size, n.Extents)
		}
		from := int64(n.Extents[0].Block) * erofs.BlockSize
		first, last := m.Find(from), m.Find(from+n.Size-1)
		switch f := m.Frame(first); {
		case n.Size <= blob.SmallFile && (first != last || f.Len > blob.SmallFrame):
			t.Errorf("a file of %d bytes lies in frames %d to %d, the first of %d bytes", n.Size, first, last, f.Len)
		case n.Size > blob.SmallFile && f.Off != from:
			t.Errorf("a file of %d bytes begins at %d, its frame at %d", n.Size, from, f.Off)
		}
	}
	units := 0
	for u := range p.Layers[0].Blob.Small() {
		at := int64(u.Block) * erofs.BlockSize
		if f := m.Frame(m.Find(at)); at+u.Size > f.Off+int64(f.Len) {
			t.Errorf("small file %d of %d bytes straddles frames", units, u.Size)
		}
		units++
	}
	if units < 200 {
		t.Errorf("%d small files are listed", units)
	}
}

func TestEqualPiecesAreStoredOnce(t *testing.T) {
	const frame = blob.LargeFrame
	one := noise(1, 8*frame)
	other := one[:3*frame] + noise(2, frame) + one[4*frame:] + "and more"
	p := packed(t, PackOptions{}, []tartest.Member{tartest.File("one", one)}, []tartest.Member{tartest.File("other", other), tartest.File("zeros", strings.Repeat("\x00", 20*frame)), tartest.File("same", one)})
	f := p.Layers[1]
	// The last piece is longer by what was appended.
	if want := int64(frame + frame + len("and more") + frame); f.Unique != want || f.SharedPieces != int64(len(other))-2*frame-8+19*frame || f.SharedFiles != 8*frame {
		t.Errorf("the figures are %+v, want %d new bytes", f, want)
	}
	if got := p.inode(t, "other").Extents; len(got) != 4 {
		t.Errorf("what lies behind each other is not one extent: %v", got)
	}
}

// library knows units by a function.
type library func(digest [32]byte, size int64) (int, uint64, bool)

func (l library) Find(digest [32]byte, size int64) (int, uint64, bool) { return l(digest, size) }

func TestKnownDataIsBorrowed(t *testing.T) {
	const frame = blob.LargeFrame
	members := []tartest.Member{tartest.File("a", noise(1, 5000)), tartest.File("b", noise(2, 6000)), tartest.File("big", noise(3, 3*frame))}
	first := packed(t, PackOptions{}, members)
	type at struct {
		number int
		block  uint64
	}
	have := map[[32]byte]at{}
	for u := range first.Layers[0].Blob.Small() {
		have[u.Digest] = at{7, u.Block}
	}
	m := first.Layers[0].Blob.Map
	for i := range m.Frames() {
		have[m.Frame(i).Digest] = at{7, uint64(m.Frame(i).Off) / erofs.BlockSize}
	}
	members = append(members, tartest.File("new", noise(4, 7000)), tartest.File("own", noise(5, frame)), tartest.File("part", noise(3, frame)+noise(5, frame)))
	p := packed(t, PackOptions{Known: library(func(d [32]byte, size int64) (int, uint64, bool) {
		if size%erofs.BlockSize != 0 {
			t.Errorf("asked for %d bytes", size)
		}
		found, ok := have[d]
		return found.number, found.block, ok
	})}, members)
	if f := p.Layers[0]; len(p.Devices) != 2 || f.Borrowed != 11000+4*frame || f.Unique != 7000+frame || f.SharedPieces != frame || f.SharedFiles != 0 {
		t.Fatalf("devices %+v, figures %+v", p.Devices, p.Layers[0])
	}
	for _, path := range []string{"a", "b", "big"} {
		got, want := p.inode(t, path).Extents, first.inode(t, path).Extents
		if len(got) != 1 || p.Devices[got[0].Device-1].Known != 7 || p.Devices[got[0].Device-1].Blob != nil || got[0].Block != want[0].Block || got[0].Len != want[0].Len {
			t.Errorf("%s lies at %+v, want %+v of the borrowed blob", path, got, want)
		}
	}
}

func TestFilledHolesAreBounded(t *testing.T) {
	var blocks uint64
	add := func(files int) error {
		packed, err := Pack(t.Context(), PackOptions{TempDir: t.TempDir()}, func(_ context.Context, l *Layer) error {
			l.dir = impliedDir(nil)
			for i := range files {
				size := int64(1<<40 + i)
				shape := sparse(size, []span{{size - 1, 1}})
				ino := &erofs.Inode{Mode: 0o100644, Size: size}
				if err := l.add(fmt.Sprint(i), ino, shape, bytes.NewReader(make([]byte, shape.stored()))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		blocks = uint64(packed.Devices[0].Blob.Map.Size()) / erofs.BlockSize
		return packed.Close()
	}
	if err := add(3); err != nil || blocks > 64<<20/erofs.BlockSize {
		t.Errorf("%d blocks stored, %v", blocks, err)
	}
	if err := add(4); err == nil || !strings.Contains(err.Error(), "holes of one image") {
		t.Errorf("four files: %v", err)
	}
}

func TestImagesOfOtherContentHaveOtherUUIDs(t *testing.T) {
	seen := map[[16]byte]string{}
	for name, data := range map[string]string{
		"inline": "a", "other inline": "b", "stored": noise(1, 5000), "other stored": noise(2, 5000), "large": noise(3, 200_000), "other large": noise(4, 200_000),
	} {
		p := packed(t, PackOptions{}, []tartest.Member{tartest.File("f", data), tartest.File("g", data)})
		var devices []erofs.Device
		for _, d := range p.Devices {
			devices = append(devices, erofs.Device{Tag: d.Blob.Map.ID()})
		}
		s, err := p.Identify(devices)
		if err != nil || seen[s.UUID] != "" {
			t.Errorf("%s has the UUID of %s, %v", name, seen[s.UUID], err)
		}
		seen[s.UUID] = name
	}
}
