package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
)

// frames and frameSize are those of the blobs in these tests: enough for two sectors of a durable bitmap.
const (
	frames    = 5000
	frameSize = 4096
	other     = 4500 // a frame whose bit is in the second sector
)

// blob opens a blob file.
func blob(t *testing.T, s *Store) *Blob {
	t.Helper()
	b, err := s.OpenBlob(digestOf("blob"), frames*frameSize, frames)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// put puts frames in the blob, whose bytes are their numbers.
func put(t *testing.T, b *Blob, frames ...int) {
	t.Helper()
	for _, i := range frames {
		if err := b.Put(i, bytes.Repeat([]byte{byte(i)}, frameSize), int64(i)*frameSize); err != nil {
			t.Fatal(err)
		}
	}
}

func checkpoint(t *testing.T, b *Blob) {
	t.Helper()
	if err := b.Checkpoint(); err != nil {
		t.Fatal(err)
	}
}

// present lists the frames that are present.
func present(b *Blob) []int {
	var list []int
	for i := range frames {
		if b.Presence().Has(i) {
			list = append(list, i)
		}
	}
	return list
}

// abandon forgets the blob without a word, as a kill does.
func abandon(s *Store, b *Blob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, b.id)
}

// patch changes bytes of the blob's presence record.
func patch(t *testing.T, s *Store, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(s.recordPath(digestOf("blob")), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

func failing(int) error { return io.ErrUnexpectedEOF }

// TestPresenceIsTrueAfterEveryEnd puts frames 0 and other, has a checkpoint, puts frame 7, ends the blob's use in every way and opens it again.
func TestPresenceIsTrueAfterEveryEnd(t *testing.T) {
	volatile, _ := layoutFor(frames)
	anotherBoot := func(t *testing.T, s *Store) { patch(t, s, volatile+sessionBootID, []byte("another-boot")) }
	for _, c := range []struct {
		name string
		end  func(t *testing.T, s *Store, b *Blob)
		want []int // frames present afterwards
	}{
		{"closed", func(t *testing.T, _ *Store, b *Blob) {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		}, []int{0, 7, other}},
		{"closed on a failing disk", func(t *testing.T, _ *Store, b *Blob) {
			b.sync = failing
			if err := b.Close(); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v", err)
			}
		}, []int{0, other}},
		{"killed", func(_ *testing.T, s *Store, b *Blob) { abandon(s, b) }, []int{0, 7, other}},
		{"killed after a checkpoint failed", func(t *testing.T, s *Store, b *Blob) {
			b.sync = failing
			if err := b.Checkpoint(); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v", err)
			}
			abandon(s, b)
		}, []int{0, other}},
		{"power cut", func(t *testing.T, s *Store, b *Blob) {
			abandon(s, b)
			anotherBoot(t, s)
		}, []int{0, other}},
		{"disk lost and found", func(t *testing.T, s *Store, b *Blob) {
			abandon(s, b)
			patch(t, s, volatile+sessionMount, []byte("another!"))
		}, []int{0, other}},
		{"power cut after a clean end", func(t *testing.T, s *Store, b *Blob) {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			anotherBoot(t, s)
		}, []int{0, 7, other}},
		{"power cut after frames were forgotten", func(t *testing.T, s *Store, b *Blob) {
			if err := b.Forget(0, 7); err != nil {
				t.Error(err)
			}
			abandon(s, b)
			anotherBoot(t, s)
		}, []int{other}},
		{"record of another size", func(t *testing.T, s *Store, b *Blob) {
			abandon(s, b)
			if err := os.Truncate(s.recordPath(digestOf("blob")), 70); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"record with a damaged header", func(t *testing.T, s *Store, b *Blob) {
			abandon(s, b)
			patch(t, s, 100, []byte("x"))
		}, nil},
		{"record of another version", func(t *testing.T, s *Store, b *Blob) {
			abandon(s, b)
			patch(t, s, 8, []byte{9})
		}, nil},
		{"record with a damaged sector", func(t *testing.T, s *Store, b *Blob) {
			abandon(s, b)
			patch(t, s, sectorSize+77, []byte{0xff})
		}, []int{other}},
		{"record whose sectors are exchanged", func(t *testing.T, s *Store, b *Blob) {
			abandon(s, b)
			patch(t, s, 2*sectorSize, b.rec.sector(0))
		}, []int{0}},
		{"record whose volatile part lacks what is durable", func(t *testing.T, s *Store, b *Blob) {
			abandon(s, b)
			patch(t, s, volatile+sessionSize, make([]byte, 8))
		}, []int{0, other}},
		{"record with frames that do not exist", func(t *testing.T, s *Store, b *Blob) {
			abandon(s, b)
			word := binary.LittleEndian.AppendUint64(nil, pair(0xffff_ffff))
			patch(t, s, volatile+sessionSize+frames/32*8, word)
		}, []int{0, other}},
		{"record whose volatile part a disk has changed", func(t *testing.T, s *Store, b *Blob) {
			abandon(s, b)
			patch(t, s, volatile+sessionSize, []byte{0xff}) // frames 0 to 7 would be present
		}, []int{0, other}},
		{"record whose volatile part was kept in part", func(t *testing.T, s *Store, b *Blob) {
			abandon(s, b)
			patch(t, s, volatile+sessionSize+64, bytes.Repeat([]byte{0xff}, 512))
		}, []int{0, other}},
		{"blob file lost", func(t *testing.T, s *Store, b *Blob) {
			abandon(s, b)
			if err := os.Remove(s.BlobPath(digestOf("blob"))); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"blob file cut off", func(t *testing.T, s *Store, b *Blob) {
			abandon(s, b)
			if err := os.Truncate(s.BlobPath(digestOf("blob")), 4096); err != nil {
				t.Fatal(err)
			}
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			b := blob(t, s)
			put(t, b, 0, other)
			checkpoint(t, b)
			put(t, b, 7)
			c.end(t, s, b)
			again := blob(t, s)
			if got := present(again); !slices.Equal(got, c.want) || again.Presence().Count() != len(c.want) {
				t.Errorf("present are %v (count %d), want %v", got, again.Presence().Count(), c.want)
			}
			if err := again.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
