package hot_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/mkfs/hot"
	"github.com/pagein/pagein/profile"
)

const page = profile.PageSize

// world is a tree whose files have random data in one blob, one behind the other.
type world struct {
	root    *erofs.Inode
	devices []hot.Device
	blob    []byte
}

// file is what a world is made of: pages, of which seed is the content.
type file struct {
	path  string
	pages int
	seed  uint64
}

func content(f file) []byte {
	random := rand.NewChaCha8([32]byte{byte(f.seed), byte(f.seed >> 8)})
	b := make([]byte, f.pages*page)
	_, _ = random.Read(b)
	return b
}

func newWorld(t *testing.T, files ...file) *world {
	t.Helper()
	w := &world{root: &erofs.Inode{Mode: unix.S_IFDIR | 0o755}}
	var object bytes.Buffer
	writer := blob.NewWriter(t.Context(), &object, blob.WriterOptions{})
	refs := map[string]blob.Ref{}
	var units []blob.Unit
	for _, f := range files {
		ref, err := writer.Append(bytes.NewReader(content(f)), int64(f.pages*page))
		if err != nil {
			t.Fatal(err)
		}
		refs[f.path] = ref
	}
	m, err := writer.Close()
	if err != nil {
		t.Fatal(err)
	}
	w.blob = make([]byte, m.Size())
	for _, f := range files {
		block := writer.Block(refs[f.path])
		data := content(f)
		copy(w.blob[block*page:], data)
		w.add(f.path, &erofs.Inode{Mode: unix.S_IFREG, Size: int64(len(data)), Extents: []erofs.Extent{{Len: int64(len(data)), Device: 1, Block: block}}})
		if len(data) <= blob.SmallFile {
			units = append(units, blob.Unit{Digest: unitDigest(data), Size: int64(len(data)), Block: block})
		}
	}
	index, err := blob.NewIndex(units)
	if err != nil {
		t.Fatal(err)
	}
	w.devices = []hot.Device{{Map: m, Index: index, Data: bytes.NewReader(w.blob)}}
	return w
}

// add gives an inode a path.
func (w *world) add(path string, n *erofs.Inode) {
	dir := w.root
	var name []byte
	for _, c := range []byte(path[1:] + "/") {
		if c != '/' {
			name = append(name, c)
			continue
		}
		next := n
		if i := slices.IndexFunc(dir.Entries, func(e erofs.Dirent) bool { return e.Name == string(name) }); i >= 0 {
			next = dir.Entries[i].Inode
		} else {
			if len(name) < len(path) && path[len(path)-len(name):] != string(name) {
				next = &erofs.Inode{Mode: unix.S_IFDIR | 0o755}
			}
			dir.Entries = append(dir.Entries, erofs.Dirent{Name: string(name), Inode: next})
		}
		dir, name = next, nil
	}
}

// read returns what a file holds, from the devices and the hot blob, which is device 2.
func (w *world) read(t *testing.T, n *erofs.Inode, hotData []byte) []byte {
	t.Helper()
	b := make([]byte, n.Size)
	for _, e := range n.Extents {
		from := w.blob
		if e.Device == 2 {
			from = hotData
		}
		copy(b[e.Off:min(e.Off+e.Len, n.Size)], from[e.Block*page:])
	}
	return b
}

// spool is a spool in memory.
type spool []byte

func (s spool) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(s).ReadAt(p, off)
}

func (s spool) WriteAt(p []byte, off int64) (int, error) { return copy(s[off:], p), nil }

// lay lays the world out for a profile and returns the hot blob's data.
func (w *world) lay(t *testing.T, p *profile.Profile) ([]byte, hot.Coverage) {
	t.Helper()
	touches, coverage := hot.Find(w.root, w.devices, p)
	plan := hot.NewPlan(touches)
	s := make(spool, plan.Size())
	m, err := plan.Write(context.WithoutCancel(t.Context()), w.devices, s, io.Discard, blob.LevelDefault)
	if err != nil {
		t.Fatal(err)
	}
	if m.Size() != plan.Size() {
		t.Errorf("the hot blob has %d bytes, the plan said %d", m.Size(), plan.Size())
	}
	plan.Apply(2)
	return s, coverage
}

func entry(path string, first, pages int64) profile.Entry {
	return profile.Entry{Path: path, Off: first * page, Len: pages * page}
}

func (w *world) file(path string) *erofs.Inode {
	n := w.root
	for _, name := range bytes.Split([]byte(path[1:]), []byte("/")) {
		i := slices.IndexFunc(n.Entries, func(e erofs.Dirent) bool { return e.Name == string(name) })
		n = n.Entries[i].Inode
	}
	return n
}

func TestWhatIsHotIsCopiedInOrderAndFilesStayWhatTheyAre(t *testing.T) {
	files := []file{{"/bin/a", 100, 1}, {"/bin/b", 3, 2}, {"/lib/c", 700, 3}, {"/lib/cold", 9, 4}}
	w := newWorld(t, files...)
	data, coverage := w.lay(t, &profile.Profile{Entries: []profile.Entry{
		entry("/lib/c", 600, 2), entry("/bin/b", 1, 1), entry("/bin/a", 10, 1), entry("/lib/c", 0, 1), entry("/bin/a", 10, 2), entry("/lib/c", 699, 50),
	}})
	var want []byte
	for _, part := range []struct{ file, first, pages int }{{2, 600, 2}, {1, 0, 3}, {0, 10, 2}, {2, 0, 1}, {2, 699, 1}} { // both pages of a lie in one chunk, and b is small
		want = append(want, content(files[part.file])[part.first*page:][:part.pages*page]...)
	}
	if !bytes.Equal(data, want) {
		t.Errorf("the hot blob has %d bytes, want %d, or others", len(data), len(want))
	}
	for _, f := range files {
		if !bytes.Equal(w.read(t, w.file(f.path), data), content(f)) {
			t.Errorf("%s has other data", f.path)
		}
	}
	if coverage.Same != 7*page || coverage.Beyond != 49*page || coverage.Files != 3 || coverage.Found != 3 {
		t.Errorf("%+v", coverage)
	}
	if cold := w.file("/lib/cold").Extents; len(cold) != 1 || cold[0].Device != 1 {
		t.Errorf("%+v", cold)
	}
}

// TestNoFileGoesOnAtTheBlockOfAnotherDevice holds layouts to the rule that kernels with block devices need. Files are as small as are split, so that copies often come to lie where they were.
func TestNoFileGoesOnAtTheBlockOfAnotherDevice(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	paths := []string{"/a", "/b"}
	for range 1500 {
		w := newWorld(t, file{"/a", 6, 1}, file{"/b", 7, 2})
		want := map[string][]byte{}
		for _, path := range paths {
			n := w.file(path)
			if first, pages := n.Extents[0].Block, n.Size/page; random.IntN(2) == 0 { // the parts of the file lie the other way round
				k := 1 + random.Int64N(pages-1)
				n.Extents = []erofs.Extent{{Len: k * page, Device: 1, Block: first + uint64(pages-k)}, {Off: k * page, Len: (pages - k) * page, Device: 1, Block: first}}
			}
			want[path] = w.read(t, n, nil)
		}
		p := &profile.Profile{}
		for range 1 + random.IntN(5) {
			p.Entries = append(p.Entries, entry(paths[random.IntN(2)], random.Int64N(7), 1+random.Int64N(3)))
		}
		data, _ := w.lay(t, p)
		for _, path := range paths {
			n := w.file(path)
			for i, e := range n.Extents[1:] {
				if last := n.Extents[i]; last.Device != e.Device && last.Block+uint64(last.Len)/page == e.Block {
					t.Fatalf("%s: %+v goes on at the block of %+v", path, e, last)
				}
			}
			if !bytes.Equal(w.read(t, n, data), want[path]) {
				t.Fatalf("%s has other data", path)
			}
		}
	}
}

// TestDataThatMovedIsFoundAsFarFromTheBeginningOfItsPiece has a profile name a page of a file that is gone, whose data is now behind other data.
func TestDataThatMovedIsFoundAsFarFromTheBeginningOfItsPiece(t *testing.T) {
	f := file{"/new", 64, 1}
	w := newWorld(t, f)
	moved := entry("/gone", 5, 2)
	sum := unitDigest(content(f)[32*page:])
	moved.Digest = profile.Digest(sum[:16])
	touches, coverage := hot.Find(w.root, w.devices, &profile.Profile{Entries: []profile.Entry{moved}})
	if want := []hot.Touch{{File: w.file("/new"), Off: 37 * page, Len: 2 * page}}; !slices.Equal(touches, want) || coverage.Moved != 2*page {
		t.Errorf("%+v, %+v", touches, coverage)
	}
}

func TestAProfileThatNamesTooMuchIsBounded(t *testing.T) {
	w := newWorld(t, file{"/a", 4, 1})
	huge := w.file("/a")
	huge.Size = 1 << 50 // its one extent is all that it has, so the rest is a hole
	p := &profile.Profile{Entries: []profile.Entry{{Path: "/a", Len: 1 << 59}, {Path: "/a", Off: 1 << 58, Len: page}, entry("/none", 0, 1<<40)}}
	_, coverage := hot.Find(w.root, w.devices, p)
	if coverage.Same != 4*page || coverage.Missing != 1<<40*page {
		t.Errorf("%+v", coverage)
	}
	// A blob that seems to be as long as blobs get.
	huge.Extents[0].Len = 1 << 43
	touches, _ := hot.Find(w.root, w.devices, p)
	plan := hot.NewPlan(touches)
	if plan.Size() < hot.MaxBytes || plan.Size() > hot.MaxBytes+1<<20 {
		t.Errorf("%d bytes are hot", plan.Size())
	}
}

// TestDigestsThatWouldMakeAProfileTooLongAreLeftOut has a profile name all of a file many times: each page of it has a digest of its own.
func TestDigestsThatWouldMakeAProfileTooLongAreLeftOut(t *testing.T) {
	w := newWorld(t, file{"/a", 1, 1})
	a := w.file("/a")
	a.Size, a.Extents = 1<<40, nil
	for i := range int64(1 << 10) {
		a.Extents = append(a.Extents, erofs.Extent{Off: 2 * i * page, Len: page, Device: 1})
	}
	p := &profile.Profile{Entries: slices.Repeat([]profile.Entry{{Path: "/a", Len: 1 << 40}}, profile.MaxEntries)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	hot.Identify(w.root, w.devices, p)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<30 {
		t.Errorf("%d bytes were allocated", grown)
	}
	if len(p.Entries) != profile.MaxEntries || p.Entries[0].Digest != (profile.Digest{}) {
		t.Errorf("%d entries, the first of them %+v", len(p.Entries), p.Entries[0])
	}
}

func TestSymbolicLinksAreFollowed(t *testing.T) {
	w := newWorld(t, file{"/usr/lib/x", 20, 1})
	link := func(path, target string) {
		w.add(path, &erofs.Inode{Mode: unix.S_IFLNK, Target: target})
	}
	link("/lib", "usr/lib")
	link("/usr/lib/y", "../../lib/x")
	link("/abs", "/usr/./lib/../lib")
	link("/loop", "loop/x")
	link("/up", "../../..")
	for path, found := range map[string]bool{
		"/lib/x": true, "/lib/y": true, "/abs/y": true, "/up/lib/x": true, "/loop/x": false, "/usr/lib/x/z": false, "/usr": false, "/nowhere/x": false,
	} {
		touches, coverage := hot.Find(w.root, w.devices, &profile.Profile{Entries: []profile.Entry{entry(path, 3, 1)}})
		if (len(touches) == 1) != found || (coverage.Found == 1) != found {
			t.Errorf("%s: %+v, %+v", path, touches, coverage)
		}
	}
}

// TestTheNextVersionOfAnImageKeepsTheBenefit changes a tenth of the files: some are other, some moved, some gone, some longer.
func TestTheNextVersionOfAnImageKeepsTheBenefit(t *testing.T) {
	var before, after []file
	p := &profile.Profile{}
	for i := range 400 {
		f := file{fmt.Sprintf("/lib/v1/%03d", i), 1 + i*i%60, uint64(i)}
		before = append(before, f)
		p.Entries = append(p.Entries, entry(f.path, 0, int64(f.pages+1)/2))
		switch i % 40 {
		case 7: // rebuilt
			f.seed += 1000
		case 17: // moved
			f.path = fmt.Sprintf("/lib/v2/%03d", i)
		case 27: // longer
			f.pages++
			f.seed += 1000
		case 37: // gone, and another one new
			f.path, f.seed = fmt.Sprintf("/lib/v2/%03d", i), f.seed+1000
		}
		after = append(after, f)
	}
	old := newWorld(t, before...)
	hot.Identify(old.root, old.devices, p)
	_, whole := old.lay(t, p)
	next := newWorld(t, after...)
	data, coverage := next.lay(t, p)
	if whole.Use() != 1 || coverage.Use() < 0.9 || coverage.Moved == 0 || coverage.Changed == 0 || coverage.Missing == 0 {
		t.Errorf("before %+v, now %+v", whole, coverage)
	}
	for _, f := range after {
		if !bytes.Equal(next.read(t, next.file(f.path), data), content(f)) {
			t.Errorf("%s has other data", f.path)
		}
	}
}

func TestRecordedRangesGetTheDigestsOfTheirData(t *testing.T) {
	w := newWorld(t, file{"/small", 3, 1}, file{"/large", 100, 2})
	p := &profile.Profile{Entries: []profile.Entry{entry("/small", 1, 1), entry("/large", 30, 40), entry("/gone", 0, 1), entry("/large", 99, 7)}}
	hot.Identify(w.root, w.devices, p)
	small := unitDigest(content(file{"/small", 3, 1}))
	large := content(file{"/large", 100, 2})
	first, second, last := unitDigest(large[:32*page]), unitDigest(large[32*page:64*page]), unitDigest(large[64*page:96*page])
	end := unitDigest(large[96*page:])
	want := []profile.Entry{
		{Path: "/small", Size: 3 * page, Off: page, Len: page, Digest: profile.Digest(small[:16])},
		{Path: "/large", Size: 100 * page, Off: 30 * page, Len: 2 * page, Digest: profile.Digest(first[:16])},
		{Path: "/large", Size: 100 * page, Off: 32 * page, Len: 32 * page, Digest: profile.Digest(second[:16])},
		{Path: "/large", Size: 100 * page, Off: 64 * page, Len: 6 * page, Digest: profile.Digest(last[:16])},
		{Path: "/gone", Len: page},
		{Path: "/large", Size: 100 * page, Off: 99 * page, Len: page, Digest: profile.Digest(end[:16])},
		{Path: "/large", Size: 100 * page, Off: 100 * page, Len: 6 * page},
	}
	if !slices.Equal(p.Entries, want) {
		t.Errorf("%+v\nwant %+v", p.Entries, want)
	}
}

func TestSmallFilesAreCopiedWhole(t *testing.T) {
	w := newWorld(t, file{"/a", 4, 1}, file{"/b", 5, 2})
	data, _ := w.lay(t, &profile.Profile{Entries: []profile.Entry{entry("/a", 3, 1), entry("/b", 3, 1)}})
	if len(data) != 5*page {
		t.Errorf("%d pages are hot", len(data)/page)
	}
}

// unitDigest is the digest of data of whole blocks.
func unitDigest(data []byte) [32]byte { return sha256.Sum256(data) }
