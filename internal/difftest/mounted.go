package difftest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// linksAreCounted fails unless each file of a mounted tree has as many links as names, and each directory 2 and one for each directory in it.
func linksAreCounted(t testing.TB, dir string) {
	t.Helper()
	count, says, name := map[uint64]uint64{}, map[uint64]uint64{}, map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		says[st.Ino], name[st.Ino] = uint64(st.Nlink), path
		count[st.Ino]++
		if d.IsDir() {
			count[st.Ino]++ // "."
			var up unix.Stat_t
			if err := unix.Lstat(filepath.Dir(path), &up); err != nil {
				return err
			}
			if path != dir {
				count[up.Ino]++ // ".."
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("walk %s: %v", dir, err)
	}
	for ino, want := range count {
		if says[ino] != want {
			t.Errorf("%q has %d links, want %d", name[ino], says[ino], want)
		}
	}
}

// holesStay fails unless every block that lies in a hole of a source file is in a hole of the mounted one, too. Files of less than a block are
// passed over: tar makes no holes of those.
func holesStay(t testing.TB, source, mounted string) {
	t.Helper()
	err := filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Blocks*512 >= st.Size || st.Size < erofs.BlockSize {
			return err
		}
		rel, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		want, err := dataRuns(path)
		if err != nil {
			return err
		}
		got, err := dataRuns(filepath.Join(mounted, rel))
		if err != nil {
			return err
		}
		for _, g := range got {
			if !covered(g, want) {
				t.Errorf("%q has data at %d to %d, the source only at %d", rel, g[0], g[1], want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("compare holes of %s and %s: %v", source, mounted, err)
	}
}

// dataRuns returns the runs of a file that are no hole, widened to blocks and joined where they touch.
func dataRuns(path string) (runs [][2]int64, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for end := int64(0); ; {
		start, err := f.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return runs, nil
		}
		if err != nil {
			return nil, err
		}
		if end, err = f.Seek(start, unix.SEEK_HOLE); err != nil {
			return nil, err
		}
		from, to := start&^(erofs.BlockSize-1), (end+erofs.BlockSize-1)&^(erofs.BlockSize-1)
		if n := len(runs); n > 0 && runs[n-1][1] >= from {
			runs[n-1][1] = to
		} else {
			runs = append(runs, [2]int64{from, to})
		}
	}
}

// covered reports whether one of the runs holds all of r.
func covered(r [2]int64, runs [][2]int64) bool {
	for _, o := range runs {
		if o[0] <= r[0] && r[1] <= o[1] {
			return true
		}
	}
	return false
}
