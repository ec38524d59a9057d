package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/profile"
)

// profileOf writes a profile of pages and returns its path.
func (l *lab) profileOf(entries ...profile.Entry) string {
	l.Helper()
	var text bytes.Buffer
	if err := (&profile.Profile{Entries: entries}).Write(&text); err != nil {
		l.Fatal(err)
	}
	file := filepath.Join(l.dir, "profile")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		l.Fatal(err)
	}
	return file
}

// TestHotPagesAreThereWithoutTheirNeighbours has a profile of single pages of large files, which are read and mapped when there is no registry: whoever had the kernel read on beyond them would wait.
func TestHotPagesAreThereWithoutTheirNeighbours(t *testing.T) {
	l, server := newLab(t), newOutage(t)
	names := []string{"a", "b", "c", "d", "e", "f", "g"}
	tree, ref := l.bigFiles(names...), server.host()+"/app:1"
	const page, apart = profile.PageSize, 40 * profile.PageSize
	var entries []profile.Entry
	for off := int64(7 * page); off < 2<<20; off += apart {
		entries = append(entries, profile.Entry{Path: "/a", Off: off, Len: page}, profile.Entry{Path: "/b", Off: off, Len: page})
	}
	l.pagein("convert", "dir:"+tree, ref)
	l.pagein("optimize", "--profile", l.profileOf(entries...), ref, ref+"-hot")
	l.start()
	target := l.mount(ref+"-hot", "m")
	s := l.idle()
	if len(s.Images[0].Backings) != 1 {
		t.Fatalf("the image reads through %v", s.Images[0].Backings)
	}
	backing := kmount.Backing(s.Images[0].Backings[0])
	if kib, err := backing.ReadAhead(); err != nil || kib != 0 {
		t.Errorf("the kernel reads %d KiB ahead, %v", kib, err)
	}
	if present, want := s.Images[0].PresentBytes, int64(len(entries))*page; present < want || present > 13*want/10 {
		t.Errorf("%d bytes are fetched of a profile that names %d", present, want)
	}
	server.out.Store(true)
	files := map[string][]byte{}
	for _, name := range []string{"a", "b"} {
		files[name] = mustRead(t, filepath.Join(tree, name))
	}
	mapped := mapFile(t, filepath.Join(target, "b"))
	read, err := os.Open(filepath.Join(target, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	got := make([]byte, page)
	for _, e := range entries {
		want := files[e.Path[1:]][e.Off:][:page]
		if e.Path == "/b" {
			copy(got, mapped[e.Off:])
		} else if _, err := read.ReadAt(got, e.Off); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%s has other bytes at %d", e.Path, e.Off)
		}
	}
	if s := l.status(); s.Totals.DemandBytes != 0 || s.Images[0].State != control.Lazy {
		t.Errorf("somebody waited for %d bytes; the image is %s", s.Totals.DemandBytes, s.Images[0].State)
	}
	server.out.Store(false)
	l.readAll(tree, target)
	l.waitFor("the kernel to read ahead again", func() bool {
		kib, err := backing.ReadAhead()
		return err == nil && kib > 0
	})
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mapFile maps a file for reading.
func mapFile(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(b); err != nil {
			t.Error(err)
		}
	})
	return b
}
