package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/pagein/pagein/profile"
)

// versions are two trees of 40 files of 200 KiB. In the second one a tenth is not what it was: two are rebuilt, one has moved, and one has given way to another. were is what the first version
// called the files of the second.
func (l *lab) versions() (first, second string, were map[string]string) {
	l.Helper()
	first, second, were = filepath.Join(l.dir, "v1"), filepath.Join(l.dir, "v2"), make(map[string]string)
	random := rand.NewChaCha8([32]byte{7})
	write := func(path string, b []byte) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			l.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			l.Fatal(err)
		}
	}
	for i := range 40 {
		b := make([]byte, 200<<10)
		_, _ = random.Read(b)
		name := fmt.Sprintf("/f%02d", i)
		now := name
		write(first+name, b)
		switch i {
		case 3, 33: // rebuilt
			_, _ = random.Read(b)
		case 7: // moved
			now = "/elsewhere/f07"
		case 11: // another one in its place
			_, _ = random.Read(b)
			now = "/other"
		}
		write(second+now, b)
		were[now] = name
	}
	return first, second, were
}

// TestTheNextVersionStartsByTheProfileOfTheOneBefore reads, when there is no registry, what a start of the next version touches.
func TestTheNextVersionStartsByTheProfileOfTheOneBefore(t *testing.T) {
	l, server := newLab(t), newOutage(t)
	first, second, were := l.versions()
	before, now := server.host()+"/app:1", server.host()+"/app:2"
	touched := make(map[string][]int64) // pages of the files of a start: half of all
	var entries []profile.Entry
	for i := range 20 {
		name := fmt.Sprintf("/f%02d", i)
		for _, page := range []int64{0, 1, 2, 10, 20, 21, 45} {
			touched[name] = append(touched[name], page)
			entries = append(entries, profile.Entry{Path: name, Off: page * profile.PageSize, Len: profile.PageSize})
		}
	}
	recorded := l.profileOf(entries...)
	l.pagein("convert", "dir:"+first, before)
	l.pagein("profile", "apply", "-o", recorded+"-digests", recorded, before)
	l.pagein("convert", "--profile", recorded+"-digests", "dir:"+second, now)
	l.start()
	target := l.mount(now, "m")
	l.idle()
	server.out.Store(true)
	there, all := 0, 0
	got := make([]byte, profile.PageSize)
	for name, was := range were {
		all += len(touched[was])
		if name == "/other" || touched[was] == nil { // the profile knows nothing of it
			continue
		}
		want := mustRead(t, second+name)
		f, err := os.Open(target + name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, page := range touched[was] {
			off := page * profile.PageSize
			if _, err := f.ReadAt(got, off); err != nil || !bytes.Equal(got, want[off:off+profile.PageSize]) {
				t.Fatalf("page %d of %s: %v, or other data", page, name, err)
			}
			there++
		}
	}
	if s := l.status(); s.Totals.DemandBytes != 0 || there*10 < all*9 {
		t.Errorf("%d of %d pages were there; somebody waited for %d bytes", there, all, s.Totals.DemandBytes)
	}
	server.out.Store(false)
	l.readAll(second, target)
}
