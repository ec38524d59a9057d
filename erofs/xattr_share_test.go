package erofs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// labelled is a tree whose inodes all have SELinux labels, some of them also capabilities, ACLs, user and overlay attributes, and each file one of its own.
func labelled(count int) *fixture {
	r := rand.New(rand.NewPCG(6, 6))
	f := newFixture(r, 0)
	label := Xattr{"security.selinux", []byte("system_u:object_r:container_file_t:s0\x00")}
	capNetRaw := Xattr{"security.capability", append([]byte{1, 0, 0, 2, 0, 0x20}, make([]byte, 14)...)}
	acl := Xattr{"system.posix_acl_access", someACL(r)}
	var dir *Inode
	for i := range count {
		if i%50 == 0 {
			dir = &Inode{Mode: unix.S_IFDIR | 0o755, Xattrs: []Xattr{label, {"trusted.overlay.opaque", []byte("y")}, {"system.posix_acl_default", acl.Value}}}
			f.root.Entries = append(f.root.Entries, Dirent{fmt.Sprint(i), dir})
		}
		n := &Inode{Mode: unix.S_IFREG | 0o755, Size: 5, Inline: f.addInline([]byte("hello"))}
		n.Xattrs = []Xattr{{"user.own", fmt.Append(nil, i)}, label, {"user.mime", []byte("text/plain")}}
		switch i % 5 {
		case 0:
			n.Xattrs = append(n.Xattrs, capNetRaw)
		case 1:
			n.Xattrs = append(n.Xattrs, acl)
		case 2:
			n.Mode, n.Size, n.Inline, n.Target = unix.S_IFLNK|0o777, 0, Inline{}, "hello"
			n.Xattrs = []Xattr{label, {"trusted.overlay.redirect", []byte("/elsewhere")}}
		}
		dir.Entries = append(dir.Entries, Dirent{fmt.Sprint("file", i), n})
	}
	f.root.Xattrs = []Xattr{label}
	return f
}

func TestEqualXattrsAreStoredOnceAndSeenEverywhere(t *testing.T) {
	f := labelled(2000)
	image, _ := f.build(t)
	for what, value := range map[string]string{"label": "container_file_t", "redirect": "/elsewhere", "type": "text/plain", "opaque": "overlay.opaque"} {
		if n := bytes.Count(image, []byte(value)); n != 1 {
			t.Errorf("the %s is in the image %d times", what, n)
		}
	}
	if n := bytes.Count(image, []byte("own")); n < 1000 {
		t.Errorf("attributes of their own: %d", n)
	}
	check(t, f)
}

func TestSharingSavesBytes(t *testing.T) {
	tests := []struct {
		value  int // bytes; the name takes one, the entry's head four
		uses   int
		shared bool
	}{
		{value: 3, uses: 2, shared: false}, // 2 entries of 8 bytes, or one and 2 numbers of 4
		{value: 3, uses: 3, shared: true},
		{value: 4, uses: 2, shared: true},
		{value: 100, uses: 1, shared: false},
		{value: BlockSize - 5, uses: 2, shared: true},
		{value: BlockSize - 4, uses: 50, shared: false}, // longer than other readers can take
	}
	for _, tt := range tests {
		f := newFixture(nil, 0)
		value := bytes.Repeat([]byte("v"), tt.value)
		for i := range tt.uses {
			f.root.Entries = append(f.root.Entries, Dirent{fmt.Sprint(i), &Inode{Mode: unix.S_IFREG, Xattrs: []Xattr{{"user.x", value}}}})
		}
		image, _ := f.build(t)
		if shared := f.open(t, image).super.XattrBlock > 0 || bytes.Count(image, value) == 1 && tt.uses > 1; shared != tt.shared {
			t.Errorf("%d uses of %d bytes: shared is %v", tt.uses, tt.value, shared)
		}
		compare(t, f, fsView{f.open(t, image)})
	}
}

func TestMoreXattrsThanAnInodeCanShare(t *testing.T) {
	f := newFixture(nil, 0)
	for i := range 3 {
		n := &Inode{Mode: unix.S_IFREG}
		for k := range 400 {
			n.Xattrs = append(n.Xattrs, Xattr{fmt.Sprintf("user.attribute%d", k), fmt.Append(nil, "value", k)})
		}
		f.root.Entries = append(f.root.Entries, Dirent{fmt.Sprint(i), n})
	}
	image, _ := f.build(t)
	if got := inodeAt(t, f, image, "0")[extendedSize+4]; got != 255 {
		t.Errorf("%d attributes are shared", got)
	}
	check(t, f)
}

// A shared area of several blocks, with entries across their borders, before and behind 2 MiB: the root's number has 16 bits.
func TestLargeSharedArea(t *testing.T) {
	for _, plain := range []int{0, 30} {
		r := rand.New(rand.NewPCG(7, 7))
		f := newFixture(r, plain)
		for i := range 900 {
			x := []Xattr{{"user.large", randomBytes(r, 3000+i%100)}}
			for _, name := range []string{"a", "b"} {
				f.root.Entries = append(f.root.Entries, Dirent{fmt.Sprint(name, i), &Inode{Mode: unix.S_IFREG, Xattrs: x}})
			}
		}
		image, _ := f.build(t)
		if len(image) > 3<<20 {
			t.Errorf("the image has %d bytes", len(image))
		}
		check(t, f)
	}
}

func TestSharingNeedsLittleMemory(t *testing.T) {
	var s sharing
	label := xattrEntry{index: 6, suffix: "selinux", value: []byte("a label that every inode has")}
	entry := func(i int) xattrEntry {
		return xattrEntry{index: 1, suffix: "own", value: binary.LittleEndian.AppendUint64(nil, uint64(i)<<20)}
	}
	const count = 10 * maxCandidates
	for i := range count {
		s.count(entry(i))
		s.count(label)
		if len(s.seen) > maxCandidates {
			t.Fatalf("%d attributes are remembered", len(s.seen))
		}
	}
	if c := s.place(label); c == nil || c.uses < count {
		t.Errorf("the attribute of all inodes was forgotten: %+v", c)
	}
	if c := s.place(entry(count - 1)); c != nil {
		t.Errorf("an attribute of one inode is shared: %+v", c)
	}
}

func TestOneHashIsNotOneXattr(t *testing.T) {
	var s sharing
	a, b := xattrEntry{index: 1, suffix: "a", value: []byte("long enough")}, xattrEntry{index: 1, suffix: "b", value: []byte("long enough")}
	for range 3 {
		s.count(a)
	}
	s.seen[b.hash()] = s.seen[a.hash()]
	s.count(b)
	if s.place(b) != nil {
		t.Error("an attribute was taken for another one")
	}
	if c := s.place(a); c == nil || c.uses != 3 {
		t.Errorf("the first of two with one hash: %+v", c)
	}
}

func TestSharedXattrsCountInTheLimit(t *testing.T) {
	// Four attributes of one inode fill its area up to room bytes; a fifth, which is shared, takes one number there.
	for room, fits := range map[int]bool{xattrIDSize: true, 0: false} {
		f := newFixture(nil, 0)
		shared := Xattr{"user.z", []byte("a value that is worth sharing")}
		full := &Inode{Mode: unix.S_IFREG}
		left := maxXattrArea - xattrHeadSize - room
		for i := range 4 {
			n := (left/(4-i) + xattrUnit - 1) &^ (xattrUnit - 1)
			full.Xattrs = append(full.Xattrs, Xattr{fmt.Sprint("user.", i), make([]byte, n-xattrEntrySize-1)})
			left -= n
		}
		full.Xattrs = append(full.Xattrs, shared)
		f.root.Entries = []Dirent{{"a", &Inode{Mode: unix.S_IFREG, Xattrs: []Xattr{shared}}}, {"full", full}}
		var m memory
		_, err := Write(&m, f.root, WriteOptions{})
		if (err == nil) != fits {
			t.Errorf("%d bytes are left for the number of a shared attribute: %v", room, err)
		}
		if fits && err == nil {
			compare(t, f, fsView{f.open(t, m.b)})
		}
	}
}
