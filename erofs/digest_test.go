package erofs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/require"
	"golang.org/x/sys/unix"
)

// withDigests gives all inodes of a tree digests, directories and empty files too: of those none is stored.
func withDigests(f *fixture, name string) *fixture {
	f.opts.DigestXattr = name
	f.each(func(_ string, n *Inode) {
		sum := sha256.Sum256(nil)
		if n.IsRegular() && n.Size < 1<<20 {
			sum = sha256.Sum256(f.want(n, 0, int(n.Size)))
		}
		n.Digest = &sum
	})
	return f
}

// digested is a random tree with digests. Some files are equal, and share the entry of their digest.
func digested(seed uint64, name string, plain int, devices ...int) *fixture {
	f := randomTree(rand.New(rand.NewPCG(10, seed)), 300, plain, devices...)
	for i := range 3 {
		f.root.Entries = append(f.root.Entries, Dirent{fmt.Sprint("equal", i), &Inode{Mode: unix.S_IFREG, Size: 4, Inline: f.addInline([]byte("same"))}})
	}
	return withDigests(f, name)
}

func TestDigestsAreStoredAndHidden(t *testing.T) {
	for _, l := range []struct {
		name    string
		plain   int
		devices []int
	}{
		{"metadata image", 0, []int{200}},
		{"plain image", 200, nil},
		{"plain image with devices", 200, []int{100, 100}},
	} {
		t.Run(l.name, func(t *testing.T) {
			f := digested(1, DefaultDigestXattr, l.plain, l.devices...)
			image, _ := f.build(t)
			fsys := f.open(t, image)
			if s := fsys.Super(); s.DigestXattr != DefaultDigestXattr || s.Incompat&incompatLongPrefixes == 0 {
				t.Errorf("superblock: %+v", s)
			}
			compare(t, f, fsView{fsys})
			if n := bytes.Count(image, digestOf("same")); n != 1 {
				t.Errorf("the digest of equal files is stored %d times", n)
			}
			path, devices := f.save(t, image)
			compare(t, f, mount(t, path, devices))
		})
	}
}

func digestOf(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return append([]byte(digestHead), sum[:]...)
}

// With a name that programs may see, the kernel itself shows what it finds through the table of prefixes.
func TestKernelFindsDigestsThroughTheirPrefix(t *testing.T) {
	const name = "trusted.erofs.fingerprint"
	f := newFixture(nil, 0)
	sum := sha256.Sum256([]byte("content"))
	f.opts.DigestXattr = name
	f.root.Entries = []Dirent{
		{"alone", &Inode{Mode: unix.S_IFREG, Size: 7, Inline: f.addInline([]byte("content")), Digest: &sum}},
		{"more", &Inode{Mode: unix.S_IFREG, Size: 7, Inline: f.addInline([]byte("content")), Digest: &sum,
			Xattrs: []Xattr{{"trusted.erofs.fingerprint2", []byte("x")}, {"user.x", []byte("y")}}}},
		{"none", &Inode{Mode: unix.S_IFREG, Size: 7, Inline: f.addInline([]byte("content"))}},
	}
	image, _ := f.build(t)
	path, _ := f.save(t, image)
	v := mount(t, path, nil)
	for _, file := range []string{"alone", "more"} {
		for reader, view := range map[string]view{"kernel": v, "own": fsView{f.open(t, image)}, "go-erofs": openGo(t, f, image)} {
			list, err := view.xattrs(file)
			if err != nil || !hasXattr(list, Xattr{name, digestOf("content")}) || file == "more" && len(list) != 3 {
				t.Errorf("%s: %s: %s, %v", reader, file, outline(list), err)
			}
		}
	}
	if n, err := unix.Lgetxattr(v.full("none"), name, nil); !errors.Is(err, unix.ENODATA) {
		t.Errorf("a file without digest: %d, %v", n, err)
	}
}

func hasXattr(list []Xattr, x Xattr) bool {
	for _, y := range list {
		if x.Name == y.Name && bytes.Equal(x.Value, y.Value) {
			return true
		}
	}
	return false
}

// fsck.erofs reads all content and compares it with the digests, from version 1.9.2 on.
func TestFsckVerifiesDigests(t *testing.T) {
	fsck := require.Tool(t, "fsck.erofs")
	if help, _ := exec.Command(fsck, "--help").CombinedOutput(); !bytes.Contains(help, []byte("xattr-inode-digest")) {
		t.Skip("fsck.erofs is too old to know digests")
	}
	run := func(f *fixture) (string, error) {
		image, _ := f.build(t)
		path, devices := f.save(t, image)
		args := []string{"--extract", "--xattr-inode-digest"}
		for _, d := range devices {
			args = append(args, "--device="+d)
		}
		out, err := exec.Command(fsck, append(args, path)...).CombinedOutput()
		return string(out), err
	}
	for _, name := range []string{DefaultDigestXattr, "user.digest", "security.x.y"} {
		if out, err := run(digested(2, name, 0, 200)); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	wrong := digested(2, DefaultDigestXattr, 0, 200)
	*wrong.root.Entries[len(wrong.root.Entries)-1].Inode.Digest = [32]byte{}
	if out, err := run(wrong); err == nil || !strings.Contains(out, "MISMATCH") {
		t.Errorf("a wrong digest: %v\n%s", err, out)
	}
}

func TestDigestsOfMkfsAreRead(t *testing.T) {
	mkfs := require.Tool(t, "mkfs.erofs")
	if help, _ := exec.Command(mkfs, "--help").CombinedOutput(); !bytes.Contains(help, []byte("xattr-inode-digest")) {
		t.Skip("mkfs.erofs is too old to know digests")
	}
	src := sourceDir(t)
	for _, opt := range []string{"--xattr-inode-digest", "--xattr-inode-digest=trusted.digest"} {
		image := t.TempDir() + "/image"
		if out, err := exec.Command(mkfs, opt, "-Exattr-name-filter", "--xattr-prefix=user.sha", image, src).CombinedOutput(); err != nil {
			t.Fatalf("mkfs.erofs: %v\n%s", err, out)
		}
		f := openFile(t, image)
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		fsys, err := Open(f, st.Size())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"f1", "f100000", "sparse"} {
			b, err := content(fsView{fsys}, name, 2<<20)
			if err != nil {
				t.Fatal(err)
			}
			if sum, ok, err := fsys.Digest(name); err != nil || !ok || sum != sha256.Sum256(b) {
				t.Errorf("%s: %x, %v, %v", name, sum, ok, err)
			}
			if list, err := fsys.Xattrs(name); err != nil || name != "sparse" && !hasXattr(list, Xattr{"user.shared", []byte("the same everywhere")}) {
				t.Errorf("%s: %s, %v", name, outline(list), err)
			}
		}
	}
}

func TestNamesThatDigestsCannotHave(t *testing.T) {
	file := func(x ...Xattr) *Inode {
		return &Inode{Mode: unix.S_IFDIR, Entries: []Dirent{{"x", &Inode{Mode: unix.S_IFREG, Xattrs: x}}}}
	}
	tests := []struct {
		name string
		root *Inode
		want string
	}{
		{"user.", file(), "for digests"},
		{"system.posix_acl_access", file(), "for digests"},
		{strings.Repeat("x", 256), file(), "for digests"},
		{"a\x00", file(), "for digests"},
		// The kernel would take the attribute of an untrusted source for a digest.
		{"user.digest", file(Xattr{"user.digest", []byte("sha256:...")}), `"/x": xattr "user.digest": the name is reserved`},
	}
	for _, tt := range tests {
		if _, err := Write(&discard{}, tt.root, WriteOptions{DigestXattr: tt.name}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.20q: error is %v, want …%s…", tt.name, err, tt.want)
		}
	}
}
