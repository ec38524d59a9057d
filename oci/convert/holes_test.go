package convert_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/pagein/pagein/oci/convert"
)

// TestNoHoleComesBeforeData converts sparse files: kernels that read over fscache would return zeros for data in the same read as a hole before it. Holes at the
// end may stay, and what is stored for the others is next to nothing.
func TestNoHoleComesBeforeData(t *testing.T) {
	dir := t.TempDir()
	const size = 100 << 20
	for name, at := range map[string][]int64{
		"first": {0}, "middle": {50<<20 + 4096}, "last": {size - 10}, "many": {8192, 1 << 20, 9 << 20, 77 << 20},
	} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		for _, off := range at {
			if _, err := f.WriteAt([]byte(name+"-data"), off); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	dst := newLayout(t)
	r, err := convert.Dir(context.Background(), dir, dst, convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Stored > 64<<10 {
		t.Errorf("%d bytes are stored for a few bytes of data", r.Stored)
	}
	fsys := open(t, dst, r.Descriptor)
	sameTree(t, fsys, os.DirFS(dir))
	for _, name := range []string{"first", "middle", "last", "many"} {
		extents, err := fsys.Extents(name)
		if err != nil {
			t.Fatal(err)
		}
		end := int64(0)
		for _, e := range extents {
			if e.Off != end {
				t.Errorf("%s: a hole from %d to %d comes before data", name, end, e.Off)
			}
			end = (e.Off + e.Len + 4095) &^ 4095
		}
	}
}
