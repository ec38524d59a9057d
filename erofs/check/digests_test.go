package check_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/erofs/check"
)

func TestWrongDigestsAreNamed(t *testing.T) {
	for content, want := range map[string]string{"hello": "", "hallo": "file: its content has SHA-256"} {
		sum := sha256.Sum256([]byte("hello"))
		file := &erofs.Inode{Mode: unix.S_IFREG | 0o644, Size: 5, Inline: erofs.Inline{Len: 5}, Digest: &sum}
		other := &erofs.Inode{Mode: unix.S_IFREG | 0o644, Size: 5, Inline: erofs.Inline{Len: 5}}
		root := &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Entries: []erofs.Dirent{{Name: "file", Inode: file}, {Name: "link", Inode: file}, {Name: "other", Inode: other}}}
		var m memory
		stats, err := erofs.Write(&m, root, erofs.WriteOptions{InlineData: strings.NewReader(content), DigestXattr: erofs.DefaultDigestXattr})
		if err != nil {
			t.Fatal(err)
		}
		fsys, err := erofs.Open(bytes.NewReader(m.b), stats.Size)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		right, err := check.Digests(t.Context(), fsys, func(path string, err error) { got += fmt.Sprintf("%s: %v", path, err) })
		if err != nil || !strings.HasPrefix(got, want) || (got == "") != (want == "") || (right == 1) != (want == "") {
			t.Errorf("%s: %d right, %q, %v", content, right, got, err)
		}
	}
}
