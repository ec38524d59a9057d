package store

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/cutdisk"
)

// uncache has the kernel read a file from the disk again.
func uncache(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
		t.Fatal(err)
	}
}

// TestWhatADiskCannotReadIsMissing has sectors go bad below everything that a store keeps: nothing of it may keep an image from being used, as it can be fetched again.
func TestWhatADiskCannotReadIsMissing(t *testing.T) {
	d := cutdisk.New(t, "ext4")
	s := open(t, d.Dir+"/store")
	const meta, text = "a metadata image", "the mount table"
	digest := digestOf(meta)
	if _, err := s.Meta(t.Context(), digest, writes(meta, nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveState("mounts", text); err != nil {
		t.Fatal(err)
	}
	b := blob(t, s)
	put(t, b, 1, 2)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{s.MetaPath(digest), s.statePath("mounts"), s.stateCopy("mounts"), s.recordPath(b.id), s.BlobPath(b.id)} {
		uncache(t, path)
	}
	d.Spoil(t, meta)
	d.Spoil(t, recordMagic)
	d.Spoil(t, string(bytes.Repeat([]byte{2}, 500))) // of frame 2

	if err := s.CheckMeta(digest); !errors.Is(err, ErrDamaged) {
		t.Errorf("the meta: %v", err)
	}
	if err := s.CheckBlob(b.id, frames*frameSize, frames); !errors.Is(err, ErrDamaged) {
		t.Errorf("the record: %v", err)
	}
	if _, err := s.Meta(t.Context(), digest, writes(meta, nil)); err != nil {
		t.Errorf("the meta cannot be fetched again: %v", err)
	}
	b = blob(t, s)
	if got := present(b); got != nil {
		t.Errorf("%v are present though nobody knows", got)
	}
	put(t, b, 1, 2)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = blob(t, s)
	defer b.Close()
	if got, want := present(b), []int{1, 2}; !slices.Equal(got, want) {
		t.Errorf("present are %v, want %v", got, want)
	}
	p := make([]byte, frameSize)
	if _, err := b.Reread(p, 2*frameSize); err != nil || p[0] != 2 {
		t.Errorf("frame 2, which was written again: %d, %v", p[0], err)
	}

	if _, err := os.ReadFile(s.stateCopy("mounts")); err != nil { // from now on in the cache
		t.Fatal(err)
	}
	d.Spoil(t, text)
	if err := s.CheckState(); !errors.Is(err, ErrDamaged) {
		t.Errorf("the mount table: %v", err)
	}
	var got string
	if err := s.LoadState("mounts", &got); err != nil || got != text {
		t.Errorf("the mount table's copy: %q, %v", got, err)
	}
}
