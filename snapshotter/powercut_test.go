package snapshotter

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/cutdisk"
)

func TestMain(m *testing.M) {
	cutdisk.Init()
	os.Exit(m.Run())
}

// TestWhatWasAcknowledgedIsThereAfterAPowerCut cuts the power right after a layer was committed, and right after a container was made on it.
func TestWhatWasAcknowledgedIsThereAfterAPowerCut(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs"} {
		t.Run(fstype, func(t *testing.T) {
			d := cutdisk.New(t, fstype)
			l := newLab(t)
			l.root = filepath.Join(d.Dir, "root")
			l.open(nil)
			data := bytes.Repeat([]byte("layer"), 20<<10)
			// after opens what a power cut leaves, and calls check with the directory of a snapshot there.
			after := func(seed int, key string, check func(dir string) error) {
				t.Helper()
				c := d.Cut(t, uint64(seed))
				c.Mount()
				defer c.Close()
				left := &lab{T: t, root: filepath.Join(c.Dir, "root"), node: l.node, log: l.log}
				left.open(nil)
				defer left.Close()
				ids, err := left.ancestors(t.Context(), key)
				if err == nil {
					err = check(left.dir(ids[0]))
				}
				if err != nil {
					t.Errorf("cut %d, %d writes unflushed: snapshot %s: %v", seed, c.Cached, key, err)
				}
			}
			for i := range 8 { // the database of the snapshots grows at first, which makes more durable than later changes do
				extract, layer, container := fmt.Sprintf("extract-%d", i), fmt.Sprintf("layer-%d", i), fmt.Sprintf("container-%d", i)
				mounts, err := l.Prepare(t.Context(), extract, "")
				if err == nil {
					err = os.WriteFile(filepath.Join(mounts[0].Source, "file"), data, 0o644)
				}
				if err == nil {
					err = l.Commit(t.Context(), layer, extract)
				}
				if err != nil {
					t.Fatal(err)
				}
				after(2*i, layer, func(dir string) error {
					got, err := os.ReadFile(filepath.Join(dir, "fs", "file"))
					if err == nil && !bytes.Equal(got, data) {
						err = fmt.Errorf("its file has %d bytes, or others, not %d", len(got), len(data))
					}
					return err
				})
				if _, err := l.Prepare(t.Context(), container, layer); err != nil {
					t.Fatal(err)
				}
				after(2*i+1, container, func(dir string) error {
					entries, err := os.ReadDir(dir)
					var names []string
					for _, e := range entries {
						names = append(names, e.Name())
					}
					if all := strings.Join(names, " "); err == nil && all != "fs work" {
						err = fmt.Errorf("its directory has %q", all)
					}
					return err
				})
			}
		})
	}
}
