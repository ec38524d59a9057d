package cutdisk

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMain(m *testing.M) {
	Init()
	os.Exit(m.Run())
}

// TestWhatWasSyncedIsThereAfterACut writes a file and syncs it, writes another and does not.
func TestWhatWasSyncedIsThereAfterACut(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs"} {
		t.Run(fstype, func(t *testing.T) {
			d := New(t, fstype)
			for _, name := range []string{"synced", "unsynced"} {
				f, err := os.Create(filepath.Join(d.Dir, name))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteString(name); err != nil {
					t.Fatal(err)
				}
				if name == "synced" {
					if err := f.Sync(); err != nil {
						t.Fatal(err)
					}
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			c := d.Cut(t, 1)
			c.Mount()
			defer c.Close()
			if b, err := os.ReadFile(filepath.Join(c.Dir, "synced")); err != nil || string(b) != "synced" {
				t.Errorf("got %q, %v", b, err)
			}
			if b, err := os.ReadFile(filepath.Join(c.Dir, "unsynced")); err == nil && len(b) > 0 {
				t.Errorf("what nobody synced is there: %q", b)
			}
		})
	}
}
