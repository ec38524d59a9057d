package mkfs

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"
)

func whiteout(name string) member { return file(name, "") }

// lower is the bottom layer of the table below.
func lower(t testing.TB) []byte {
	return archive(t, directory("d", 0o700), file("d/a", "A"), file("d/b", "B"), directory("d/sub", 0o711), file("d/sub/x", "X"),
		file("f", "F"), symlink("l", "d"))
}

func TestLayersHideAndReplaceWhatLiesBelow(t *testing.T) {
	tests := map[string]struct {
		members []member
		want    []string
	}{
		"nothing": {nil, []string{"d drwx------", `d/a -rw-r--r-- "A"`, `d/b -rw-r--r-- "B"`, "d/sub drwx--x--x", `d/sub/x -rw-r--r-- "X"`,
			`f -rw-r--r-- "F"`, "l -> d"}},
		"whiteouts": {[]member{whiteout("d/.wh.sub"), whiteout(".wh.f"), whiteout("d/.wh.gone")},
			[]string{"d drwx------", `d/a -rw-r--r-- "A"`, `d/b -rw-r--r-- "B"`, "l -> d"}},
		"whiteout spares its own layer, marker last": {[]member{file("d/a", "new"), whiteout("d/.wh.a"), whiteout(".wh.f"), whiteout(".wh.l"), whiteout("d/.wh.sub"), whiteout("d/.wh.b")},
			[]string{"d drwx------", `d/a -rw-r--r-- "new"`}},
		"opaque, marker first": {[]member{whiteout("d/.wh..wh..opq"), file("d/sub/y", "Y"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{"d drwx------", "d/sub drwxr-xr-x", `d/sub/y -rw-r--r-- "Y"`}},
		"opaque, marker last": {[]member{file("d/sub/y", "Y"), whiteout(".wh.f"), whiteout(".wh.l"), whiteout("d/.wh..wh..opq")},
			[]string{"d drwx------", "d/sub drwxr-xr-x", `d/sub/y -rw-r--r-- "Y"`}},
		"opaque root": {[]member{file("n", "N"), whiteout(".wh..wh..opq")}, []string{`n -rw-r--r-- "N"`}},
		"directory becomes file": {[]member{file("d", "D"), whiteout(".wh.l")},
			[]string{`d -rw-r--r-- "D"`, `f -rw-r--r-- "F"`}},
		"file becomes directory, symlink too": {[]member{directory("f", 0o755), file("f/g", "G"), directory("l", 0o755), whiteout(".wh.d")},
			[]string{"f drwxr-xr-x", `f/g -rw-r--r-- "G"`, "l drwxr-xr-x"}},
		"directory takes attributes and keeps entries": {[]member{directory("d", 0o755), whiteout("d/.wh.sub"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{"d drwxr-xr-x", `d/a -rw-r--r-- "A"`, `d/b -rw-r--r-- "B"`}},
		"link to a file that the layer removes": {[]member{hardLink("k", "d/a"), whiteout(".wh.d"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{`k -rw-r--r-- "A"`}},
		"link to a file that the layer replaces": {[]member{hardLink("k", "f"), file("f", "new"), whiteout(".wh.d"), whiteout(".wh.l")},
			[]string{`f -rw-r--r-- "new"`, `k -rw-r--r-- "F"`}},
		"parent is a symlink of the layer below": {[]member{file("l/c", "C"), whiteout("l/.wh.a"), whiteout("d/.wh.sub"), whiteout(".wh.f")},
			[]string{"d drwx------", `d/b -rw-r--r-- "B"`, `d/c -rw-r--r-- "C"`, "l -> d"}},
		"implied directories inherit from setgid directories, marker last": {[]member{directory("d", 0o2775), file("d/sub/n/y", "Y"), whiteout("d/.wh..wh..opq"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{"d dgrwxrwxr-x", "d/sub dgrwxr-xr-x", "d/sub/n dgrwxr-xr-x", `d/sub/n/y -rw-r--r-- "Y"`}},
		"files of aufs are no files": {[]member{directory(".wh..wh.plnk", 0o700), file(".wh..wh.plnk/1.2", "?"), file(".wh..wh.aufs", ""), whiteout(".wh.d"), whiteout(".wh.l")},
			[]string{`f -rw-r--r-- "F"`}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := listing(t, lower(t), archive(t, tc.members...))
			slices.Sort(tc.want)
			if !slices.Equal(got, tc.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
		})
	}
}

func TestNonsenseWhiteoutsAreRefused(t *testing.T) {
	for _, name := range []string{".wh.", ".wh..", ".wh...", "d/.wh..."} {
		_, err := applied(lower(t), true, archive(t, whiteout(name)))
		if err == nil || !strings.Contains(err.Error(), "makes no sense") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestWhiteoutNamesAreOrdinaryInPlainTars(t *testing.T) {
	want := []string{`.wh.f -rw-r--r-- ""`, `f -rw-r--r-- "F"`}
	if got := listing(t, archive(t, file("f", "F"), whiteout(".wh.f"))); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEqualFilesOfAllLayersAreStoredOnce(t *testing.T) {
	big, small := strings.Repeat("big", 2<<20), strings.Repeat("small", 1000) // above and below what is hashed in memory
	tree, err := applied(archive(t, file("a", big), file("b", small)), true,
		archive(t, file("c", small), file("d", big), file("e", big+"!"), file("f", big[1:]+"?")))
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	s := tree.Stats()
	if want := int64(len(big) + len(small)); s.Shared != want {
		t.Errorf("%d bytes shared, want %d", s.Shared, want)
	}
	if n := len(tree.store.sinks[0].(*memorySink).data); n != 4 {
		t.Errorf("%d pieces of data stored, want 4", n)
	}
}

func TestRandomLayerStacksEqualReferenceOnDisk(t *testing.T) {
	require.Root(t)
	for seed := range int64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			reference := newReference(t, seed)
			var layers [][]byte
			for range 10 {
				layers = append(layers, reference.addLayer())
			}
			image, stats := makeImage(t, func(ctx context.Context, tree *Tree, sink Sink) error {
				for _, l := range layers {
					if err := tree.ApplyLayer(ctx, bytes.NewReader(l), sink); err != nil {
						return err
					}
				}
				return nil
			}, ImageOptions{})
			accepted(t, image, "", stats)
			treetest.Compare(t, reference.dir, mountImage(t, image, ""))
		})
	}
}
