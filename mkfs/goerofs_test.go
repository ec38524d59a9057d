package mkfs

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"
)

func TestIndependentReaderSeesTheSource(t *testing.T) {
	for name, source := range sources(t) {
		t.Run(name, func(t *testing.T) {
			device := filepath.Join(t.TempDir(), "data")
			for _, o := range []ImageOptions{{}, {BlobDev: device}} {
				if o.BlobDev == "" && !strings.HasPrefix(name, "random") {
					continue // large trees once: that is where all kinds of layouts meet
				}
				path, _ := makeImage(t, dirOf(source), o)
				image := open(t, path)
				var opts []goerofs.OpenOpt
				if o.BlobDev != "" {
					opts = append(opts, goerofs.WithExtraDevices(open(t, device)))
				}
				fsys, err := goerofs.Open(image, opts...)
				if err != nil {
					t.Fatal(err)
				}
				sameAsOnDisk(t, source, fsys)
			}
		})
	}
}

func open(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// sameAsOnDisk compares what io/fs can express: go-erofs takes only names that are valid there.
func sameAsOnDisk(t *testing.T, source string, fsys fs.FS) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(source, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		if !fs.ValidPath(rel) {
			return nil
		}
		seen++
		compareWithDisk(t, path, fsys, rel)
		return nil
	})
	if err != nil || seen < 100 {
		t.Errorf("compared %d files: %v", seen, err)
	}
}

func compareWithDisk(t *testing.T, path string, fsys fs.FS, rel string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	info, err := fs.Lstat(fsys, rel)
	if err != nil {
		t.Errorf("%q: %v", rel, err)
		return
	}
	got := info.Sys().(*goerofs.Stat)
	if got.UID != st.Uid || got.GID != st.Gid || info.ModTime().Unix() != st.Mtim.Sec || int64(info.ModTime().Nanosecond()) != st.Mtim.Nsec {
		t.Errorf("%q: owner %d:%d, time %v", rel, got.UID, got.GID, info.ModTime())
	}
	disk, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	// go-erofs does not translate setuid, setgid and sticky into the bits of io/fs.
	if info.Mode().Type() != disk.Mode().Type() || info.Mode().Perm() != disk.Mode().Perm() {
		t.Errorf("%q: mode %v, want %v", rel, info.Mode(), disk.Mode())
	}
	if !info.Mode().IsRegular() {
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Open(rel)
	if err != nil {
		t.Errorf("%q: %v", rel, err)
		return
	}
	defer f.Close()
	if data, err := io.ReadAll(f); err != nil || !bytes.Equal(data, want) {
		t.Errorf("%q: content differs in %d bytes, want %d (%v)", rel, len(data), len(want), err)
	}
}
