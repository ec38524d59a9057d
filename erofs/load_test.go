package erofs

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// rewritten reads an image back and writes it anew.
func rewritten(t *testing.T, image []byte) []byte {
	t.Helper()
	fsys, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	root, err := fsys.Tree()
	if err != nil {
		t.Fatal(err)
	}
	s := fsys.Super()
	f := fixture{root: root, inline: image, opts: WriteOptions{
		UUID: s.UUID, VolumeName: s.VolumeName, BuildTime: s.BuildTime, BuildTimeNsec: s.BuildTimeNsec, Devices: s.Devices, DigestXattr: s.DigestXattr,
	}}
	again, _ := f.build(t)
	return again
}

func TestAMetadataImageThatIsReadBackAndWrittenIsTheSame(t *testing.T) {
	for seed := range uint64(30) {
		image, _ := randomTree(rand.New(rand.NewPCG(seed, 7)), 300, 0, 2000, 300, 70_000).build(t)
		if !bytes.Equal(rewritten(t, image), image) {
			t.Errorf("seed %d: the image is another", seed)
		}
	}
	image, _ := golden().build(t)
	if !bytes.Equal(rewritten(t, image), image) {
		t.Error("golden: the image is another")
	}
}

func TestDigestsAreReadBack(t *testing.T) {
	f := newFixture(nil, 0)
	f.opts.DigestXattr = DefaultDigestXattr
	f.root.Entries = []Dirent{{"a", &Inode{Mode: unix.S_IFREG, Size: 5, Inline: f.addInline([]byte("hello")), Digest: &[32]byte{1, 2, 3}}}}
	image, _ := f.build(t)
	if !bytes.Equal(rewritten(t, image), image) {
		t.Error("the image is another")
	}
}

func TestImagesWithTheirOwnDataAreNotReadBack(t *testing.T) {
	f := newFixture(rand.New(rand.NewPCG(1, 1)), 3)
	f.root.Entries = []Dirent{{"big", &Inode{Mode: unix.S_IFREG, Size: 2 * BlockSize, Extents: []Extent{{Len: 2 * BlockSize, Block: 1}}}}}
	image, _ := f.build(t)
	_, err := f.open(t, image).Tree()
	if err == nil || !strings.Contains(err.Error(), `"big": its data is in the image itself`) {
		t.Errorf("error is %v", err)
	}
}
