package store

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTheRecordIsAsDocumented compares a record with the bytes that docs/format.md leads to.
func TestTheRecordIsAsDocumented(t *testing.T) {
	s := open(t, t.TempDir())
	id := strings.Repeat("ab", 32)
	b, err := s.OpenBlob(id, 40*4096, 40)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 9, 39} {
		if err := b.Put(i, make([]byte, 4096), int64(i)*4096); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(s.recordPath(id))
	if err != nil {
		t.Fatal(err)
	}
	boot, err := BootID()
	if err != nil {
		t.Fatal(err)
	}
	bits := "0102000080"
	pairs := "01020000" + "fefdffff" + "80000000" + "7fffffff"
	for _, c := range []struct {
		name string
		off  int
		want string
	}{
		{"header", 0, hex.EncodeToString([]byte("PAGEINPR")) + "02000000" + "28000000" + id + strings.Repeat("00", 460) + "d81b369a"},
		{"sector", 512, bits + strings.Repeat("00", 503) + "6f6a3988"},
		{"volatile", 4096, "0100000000000000"},
		{"boot", 4096 + 16, hex.EncodeToString([]byte(boot)) + strings.Repeat("00", 12)},
		{"volatile bits", 4096 + 64, pairs},
	} {
		if got := hex.EncodeToString(raw[c.off:][:len(c.want)/2]); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, strings.ReplaceAll(got, strings.Repeat("00", 32), "…"), strings.ReplaceAll(c.want, strings.Repeat("00", 32), "…"))
		}
	}
	if len(raw) != 4096+64+16 {
		t.Errorf("it has %d bytes", len(raw))
	}
}

// FuzzRecord opens records that a disk has made up: they count frames that exist or none, and become sound.
func FuzzRecord(f *testing.F) {
	const n = 5000
	id := strings.Repeat("ab", 32)
	blank, err := blankRecord(nil, id, n)
	if err != nil {
		f.Fatal(err)
	}
	blank.durable[0] = 5
	f.Add(bytes.Join([][]byte{blank.header(), blank.sector(0), blank.sector(1)}, nil), uint16(0))
	f.Add([]byte{}, uint16(4096))
	f.Fuzz(func(t *testing.T, b []byte, off uint16) {
		path := filepath.Join(t.TempDir(), "record")
		_, size := layoutFor(n)
		file := make([]byte, size)
		copy(file, bytes.Join([][]byte{blank.header(), blank.sector(0), blank.sector(1)}, nil))
		if int(off) < len(file) {
			copy(file[off:], b)
		}
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			rf, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			r, err := openRecord(rf, id, n, session{boot: "boot", mount: 1})
			if err != nil {
				t.Fatal(err)
			}
			if got := newPresence(r.words).Count(); got < 0 || got > n {
				t.Errorf("%d of %d frames are present", got, n)
			}
			for i, w := range r.durable {
				if word, sound := unpair(r.words[i]); !sound || w&^word != 0 {
					t.Errorf("word %d: %x is durable and only %x present", i, w, word)
				}
			}
			if err := r.close(time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
