package erofs

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// collision returns a name in user. that is not want and has its filter bit.
func collision(t *testing.T, want string) string {
	t.Helper()
	_, suffix, err := splitXattr(want)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10000 {
		if name := fmt.Sprint("n", i); xattrFilterBit(1, name) == xattrFilterBit(1, suffix) {
			return "user." + name
		}
	}
	t.Fatal("no name collides")
	return ""
}

// A name that is not there but has the bit of one that is, and a name whose bit no other has, must both be answered rightly by the kernel.
func TestKernelAnswersThroughTheNameFilter(t *testing.T) {
	f := newFixture(nil, 0)
	twin := collision(t, "user.present")
	f.root.Entries = []Dirent{
		{"one", &Inode{Mode: unix.S_IFREG, Xattrs: []Xattr{{"user.present", []byte("1")}}}},
		{"both", &Inode{Mode: unix.S_IFREG, Xattrs: []Xattr{{"user.present", []byte("1")}, {twin, []byte("2")}}}},
	}
	// As many names as clear every bit.
	all := &Inode{Mode: unix.S_IFREG}
	for i := range 200 {
		all.Xattrs = append(all.Xattrs, Xattr{fmt.Sprintf("user.%d", i), []byte("3")})
	}
	f.root.Entries = append(f.root.Entries, Dirent{"all", all})
	image, _ := f.build(t)
	if filter := le.Uint32(inodeAt(t, f, image, "all")[extendedSize:]); filter != 0 {
		t.Errorf("200 names leave the filter %#x", filter)
	}
	path, _ := f.save(t, image)
	v := mount(t, path, nil)
	compare(t, f, v)
	buf := make([]byte, 10)
	for file, names := range map[string][]string{
		"one":  {twin, "user.absent", "security.capability", "system.posix_acl_access", "trusted.present"},
		"both": {"user.absent"},
		"all":  {"user.absent", "user.200"},
	} {
		for _, name := range names {
			if n, err := unix.Lgetxattr(v.full(file), name, buf); !errors.Is(err, unix.ENODATA) {
				t.Errorf("%s of %s: %d bytes, %v", name, file, n, err)
			}
		}
	}
}

// This shows that the kernel does ask the filter, and that the own reader does not show what the kernel hides.
func TestFilterThatDeniesAnXattrHidesIt(t *testing.T) {
	f := newFixture(nil, 0)
	f.root.Entries = []Dirent{{"x", &Inode{Mode: unix.S_IFREG, Xattrs: []Xattr{{"user.x", []byte("1")}}}}}
	image, _ := f.build(t)
	head := inodeAt(t, f, image, "x")[extendedSize:]
	if filter := le.Uint32(head); filter != xattrFilterEmpty&^xattrFilterBit(1, "x") {
		t.Fatalf("filter is %#x", filter)
	}
	le.PutUint32(head, xattrFilterEmpty)
	sealSuper(image[:BlockSize])
	if _, err := f.open(t, image).Xattrs("x"); err == nil || !strings.Contains(err.Error(), "the name filter says it is not") {
		t.Errorf("error is %v", err)
	}
	path, _ := f.save(t, image)
	v := mount(t, path, nil)
	if _, err := unix.Lgetxattr(v.full("x"), "user.x", make([]byte, 10)); !errors.Is(err, unix.ENODATA) {
		t.Errorf("the kernel says %v: does it look at the filter?", err)
	}

	// Where the superblock says that filters do not count, they do not.
	image[superOffset+104] = 1
	sealSuper(image[:BlockSize])
	if list, err := f.open(t, image).Xattrs("x"); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	path, _ = f.save(t, image)
	if n, err := unix.Lgetxattr(mount(t, path, nil).full("x"), "user.x", make([]byte, 10)); n != 1 || err != nil {
		t.Errorf("the kernel says %d, %v", n, err)
	}
}

func TestImagesWithoutXattrsNeedNoFilter(t *testing.T) {
	f := newFixture(nil, 0)
	image, _ := f.build(t)
	if s := f.open(t, image).Super(); s.Compat&compatXattrFilter != 0 {
		t.Errorf("features %#x", s.Compat)
	}
	if bytes.Contains(image, []byte("user")) {
		t.Error("attributes from nowhere")
	}
}
