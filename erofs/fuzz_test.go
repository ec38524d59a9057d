package erofs

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var errEnough = errors.New("visited enough")

// readAll reads names, attributes and up to limit bytes of each file into w, and returns how many inodes it met. It goes on after errors in single
// files, and returns one of them.
func readAll(fsys *FS, limit int64, w io.Writer) (int, error) {
	const maxVisits = 20000
	visits := 0
	var first error
	keep := func(err error) {
		if first == nil && err != nil && err != io.EOF {
			first = err
		}
	}
	var visit func(name string) error
	visit = func(name string) error {
		if visits++; visits > maxVisits {
			return errEnough
		}
		_, err := fsys.Xattrs(name)
		keep(err)
		info, err := fsys.Lstat(name)
		keep(err)
		if err != nil {
			return nil
		}
		switch info.Mode().Type() {
		case fs.ModeSymlink:
			_, err = fsys.ReadLink(name)
			keep(err)
			_, err = fsys.Stat(name)
			if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) {
				keep(err)
			}
		case fs.ModeDir:
			list, err := fsys.ReadDir(name)
			keep(err)
			for _, e := range list {
				e.Type()
				if err := visit(path.Clean(name + "/" + e.Name())); err != nil {
					return err
				}
			}
		case 0:
			_, err := fsys.Extents(name)
			keep(err)
			f, err := fsys.Open(name)
			keep(err)
			if err == nil {
				_, err = io.Copy(w, io.LimitReader(f, limit))
				keep(err)
			}
		}
		return nil
	}
	if err := visit("."); err != nil {
		return visits, err
	}
	return visits, first
}

// seedImages are small images in which every kind of record occurs.
func seedImages(t testing.TB) [][]byte {
	var list [][]byte
	for seed := range uint64(6) {
		f := randomTree(rand.New(rand.NewPCG(9, seed)), int(4+seed*4), 0, 100)
		for _, d := range []int{1, 2, 3}[:seed%3] {
			f.root.Entries = append(f.root.Entries, Dirent{string(rune('0' + d)), &Inode{Mode: unix.S_IFREG, Size: 9000, Extents: []Extent{{Len: 9000, Device: 1}}}})
		}
		image, _ := f.build(t)
		digested, _ := withDigests(f, DefaultDigestXattr).build(t)
		list = append(list, image, digested)
	}
	return list
}

// Whatever an image says, reading all of it ends, without a panic, and twice with the same result.
func FuzzOpen(f *testing.F) {
	for _, image := range seedImages(f) {
		f.Add(image)
	}
	device := zeroPadded{[]byte("device"), 100 * BlockSize}
	f.Fuzz(func(t *testing.T, image []byte) {
		if len(image) > 1<<20 {
			return
		}
		image = bytes.Clone(image)
		if len(image) >= BlockSize {
			sealSuper(image[:BlockSize]) // mutations should get past the checksum
		}
		for _, devices := range [][]io.ReaderAt{{device}, nil} {
			fsys, err := Open(bytes.NewReader(image), int64(len(image)), devices...)
			if err != nil {
				continue
			}
			var a, b bytes.Buffer
			n, _ := readAll(fsys, 1<<16, &a)
			m, _ := readAll(fsys, 1<<16, &b)
			if n != m || !bytes.Equal(a.Bytes(), b.Bytes()) {
				t.Error("read twice, differently")
			}
		}
	})
}

// What Write accepts reads back equal, and it accepts everything that the format can express.
func FuzzWrite(f *testing.F) {
	f.Add(uint64(1), uint8(10), uint8(0), uint8(100), "name", "target", "user.x", []byte("value"), int64(5), uint32(7))
	f.Add(uint64(2), uint8(50), uint8(100), uint8(0), "..a", "/", "system.posix_acl_access", []byte{}, int64(-1), uint32(1e9-1))
	f.Add(uint64(3), uint8(90), uint8(99), uint8(99), "\xff", "a//b", "security.capability", make([]byte, 5000), int64(1)<<62, uint32(0))
	f.Fuzz(func(t *testing.T, seed uint64, count, plain, device uint8, name, target, xattr string, value []byte, mtime int64, nsec uint32) {
		const enough = 80 // blocks: as many as the largest random extent has
		var devices []int
		if device >= enough || plain < enough {
			devices = []int{int(max(device, enough))}
		}
		blocks := 0
		if plain >= enough {
			blocks = int(plain)
		}
		x := randomTree(rand.New(rand.NewPCG(seed, 0)), int(count), blocks, devices...)
		odd := &Inode{Mode: unix.S_IFDIR, Mtime: mtime, MtimeNsec: nsec, Xattrs: []Xattr{{xattr, value}}}
		odd.Entries = []Dirent{{name, &Inode{Mode: unix.S_IFLNK, Target: target}}}
		x.root.Entries = append(x.root.Entries, Dirent{"odd", odd})
		if seed%2 == 1 {
			withDigests(x, DefaultDigestXattr)
		}

		_, suffix, badXattr := splitXattr(xattr)
		badXattr = cmp.Or(badXattr, checkName("x"+suffix))
		if strings.Contains(suffix, "/") || len(suffix) == 255 {
			return // good in an attribute, unlike in a name
		}
		if cmp.Or(badXattr, checkName(name), checkInode(odd), checkInode(odd.Entries[0].Inode)) != nil || len(value) > 65535 {
			x.opts.InlineData = bytes.NewReader(x.inline)
			if _, err := Write(&discard{}, x.root, x.opts); err == nil {
				t.Error("a bad tree was written")
			}
			return
		}
		image, _ := x.build(t)
		compare(t, x, fsView{x.open(t, image)})
	})
}
