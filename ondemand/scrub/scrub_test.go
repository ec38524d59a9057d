package scrub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand/store"
)

const (
	frames    = 6
	frameSize = 8192
)

func frameBytes(i int) []byte { return bytes.Repeat([]byte{byte(i + 1)}, frameSize) }

// fixture is a store with a meta, a blob of which all frames but the last are present, and a state.
type fixture struct {
	*testing.T
	root string
	meta string // its digest
	m    *blob.Map
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	var list []blob.Frame
	for i := range frames {
		list = append(list, blob.Frame{
			Off: int64(i) * frameSize, Len: frameSize, SrcOff: int64(i) * frameSize, SrcLen: frameSize, Codec: blob.Raw, Digest: sha256.Sum256(frameBytes(i)),
		})
	}
	m, err := blob.NewMap([]int64{frames * frameSize}, list)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, root: t.TempDir(), meta: digest([]byte("meta")), m: m}
	s := f.open()
	if _, err := s.Meta(t.Context(), f.meta, writes([]byte("meta"))); err != nil {
		t.Fatal(err)
	}
	raw, err := s.Map(t.Context(), m.ID(), writes(m.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Unmap(raw); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveState("mounts", "none"); err != nil {
		t.Fatal(err)
	}
	b := f.openBlob(s)
	for i := range frames - 1 {
		if err := b.Put(i, frameBytes(i), int64(i)*frameSize); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return f
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func writes(b []byte) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

func (f *fixture) open() *store.Store {
	f.Helper()
	s, err := store.Open(f.root)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() }) // it may be closed
	return s
}

func (f *fixture) openBlob(s *store.Store) *store.Blob {
	f.Helper()
	b, err := s.OpenBlob(f.m.ID(), f.m.Size(), frames)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// damage changes a byte of the file at a path below the root.
func (f *fixture) damage(path string, off int64) {
	f.Helper()
	file, err := os.OpenFile(filepath.Join(f.root, path), os.O_RDWR, 0)
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	var b [1]byte
	if _, err = file.ReadAt(b[:], off); err == nil {
		_, err = file.WriteAt([]byte{b[0] ^ 0x40}, off)
	}
	if err != nil {
		f.Fatal(err)
	}
}

// scrub returns what is wrong: "part frame", with "!" behind it if it was repaired.
func (f *fixture) scrub(s *store.Store, o Options) (found []string, r Result) {
	f.Helper()
	o.Problem = func(p Problem) {
		text := fmt.Sprintf("%s %d", p.Part, p.Frame)
		if p.Repaired {
			text += "!"
		}
		found = append(found, text)
	}
	r, err := Store(f.Context(), s, o)
	if err != nil {
		f.Fatal(err)
	}
	return found, r
}

// TestWhateverIsDamagedIsFoundAndRepaired damages one thing at a time. Without --repair it stays, with it, it is gone, and the rest as it was.
func TestWhateverIsDamagedIsFoundAndRepaired(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(f *fixture)
		want   []string
		left   int // frames present after the repair
	}{
		{"nothing", func(*fixture) {}, nil, frames - 1},
		{"two frames", func(f *fixture) {
			f.damage("blobs/"+f.m.ID(), 100)
			f.damage("blobs/"+f.m.ID(), 3*frameSize+frameSize-1)
		}, []string{"frame 0!", "frame 3!"}, frames - 3},
		{"bytes of a frame that is absent", func(f *fixture) { f.damage("blobs/"+f.m.ID(), (frames-1)*frameSize) }, nil, frames - 1},
		{"the header of the record", func(f *fixture) { f.damage("blobs/"+f.m.ID()+".present", 9) }, []string{"record 0!"}, 0},
		{"the bits of the record", func(f *fixture) { f.damage("blobs/"+f.m.ID()+".present", 512) }, []string{"record 0!"}, 0},
		{"the record is gone, as if it had never reached the disk", func(f *fixture) {
			if err := os.Remove(filepath.Join(f.root, "blobs", f.m.ID()+".present")); err != nil {
				f.Fatal(err)
			}
		}, nil, 0},
		{"the blob file is gone", func(f *fixture) {
			if err := os.Remove(filepath.Join(f.root, "blobs", f.m.ID())); err != nil {
				f.Fatal(err)
			}
		}, []string{"record 0!"}, 0},
		{"the blob file is cut off", func(f *fixture) {
			if err := os.Truncate(filepath.Join(f.root, "blobs", f.m.ID()), frameSize); err != nil {
				f.Fatal(err)
			}
		}, []string{"record 0!"}, 0},
		{"the meta", func(f *fixture) { f.damage("meta/"+f.meta+".erofs", 1) }, []string{"meta 0!"}, frames - 1},
		{"the map", func(f *fixture) { f.damage("maps/"+f.m.ID()+".map", 100) }, []string{"map 0!"}, frames - 1},
		{"the state", func(f *fixture) { f.damage("state/mounts.json", 2) }, []string{"state 0"}, frames - 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			c.damage(f)
			s := f.open()
			var plain []string
			for _, w := range c.want {
				plain = append(plain, strings.TrimSuffix(w, "!"))
			}
			for range 2 {
				if found, _ := f.scrub(s, Options{}); !slices.Equal(found, plain) {
					t.Errorf("the check finds %q, want %q", found, plain)
				}
			}
			if found, _ := f.scrub(s, Options{Repair: true}); !slices.Equal(found, c.want) {
				t.Errorf("the repair finds %q, want %q", found, c.want)
			}
			if err := s.SaveState("mounts", "new"); err != nil { // which its owner does
				t.Fatal(err)
			}
			if found, _ := f.scrub(s, Options{}); len(found) > 0 {
				t.Errorf("after the repair: %q", found)
			}
			b := f.openBlob(s)
			defer b.Close()
			if got := b.Presence().Count(); got != c.left {
				t.Errorf("%d frames are present, want %d", got, c.left)
			}
			for i := range frames {
				got := make([]byte, frameSize)
				if _, err := b.ReadAt(got, int64(i)*frameSize); err != nil || b.Presence().Has(i) && !bytes.Equal(got, frameBytes(i)) {
					t.Errorf("frame %d is present and wrong (%v)", i, err)
				}
			}
		})
	}
}

// TestWhatIsInUseIsNotRemoved damages a meta and a map that are in use: their users would not notice that they are gone, and new ones get what is fetched anew anyway.
func TestWhatIsInUseIsNotRemoved(t *testing.T) {
	f := newFixture(t)
	f.damage("meta/"+f.meta+".erofs", 1)
	f.damage("maps/"+f.m.ID()+".map", 100)
	s := f.open()
	b := f.openBlob(s)
	defer b.Close()
	found, _ := f.scrub(s, Options{Repair: true, InUse: func(meta string) bool { return meta == f.meta }})
	if want := []string{"meta 0", "map 0"}; !slices.Equal(found, want) {
		t.Errorf("got %q, want %q", found, want)
	}
}

// TestAScrubSaysWhatItLookedAt counts.
func TestAScrubSaysWhatItLookedAt(t *testing.T) {
	f := newFixture(t)
	s := f.open()
	var done, total int64
	_, got := f.scrub(s, Options{Progress: func(d, n int64) {
		if d < done || d > n {
			t.Errorf("progress %d of %d after %d", d, n, done)
		}
		done, total = d, n
	}})
	if want := (Result{Metas: 1, Maps: 1, Blobs: 1, Frames: frames - 1, Bytes: (frames - 1) * frameSize}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if done != total || total == 0 {
		t.Errorf("it ended at %d of %d", done, total)
	}
	if err := s.RemoveMap(f.m.ID()); err != nil {
		t.Fatal(err)
	}
	if found, got := f.scrub(s, Options{}); len(found) > 0 || got.Unknown != 1 {
		t.Errorf("without the map: %q, %+v", found, got)
	}
}

// TestWhatIsEvictedMeanwhileIsNotTakenForDamage gives frames up and fetches them again while the store is scrubbed.
func TestWhatIsEvictedMeanwhileIsNotTakenForDamage(t *testing.T) {
	f := newFixture(t)
	s := f.open()
	b := f.openBlob(s)
	defer b.Close()
	ctx, stop := context.WithCancel(t.Context())
	var evicting sync.WaitGroup
	evicting.Go(func() {
		for i := 0; ctx.Err() == nil; i = (i + 1) % (frames - 1) {
			err := b.Forget(i)
			if err == nil {
				err = b.Punch(int64(i)*frameSize, frameSize)
			}
			if err == nil {
				err = b.Put(i, frameBytes(i), int64(i)*frameSize)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 200 {
		if found, _ := f.scrub(s, Options{Repair: true}); len(found) > 0 {
			t.Errorf("found %q", found)
		}
	}
	stop()
	evicting.Wait()
}
