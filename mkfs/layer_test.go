package mkfs

import (
	"archive/tar"
	"github.com/pagein/pagein/internal/tartest"
	"slices"
	"strings"
	"testing"
)

func whiteout(name string) tartest.Member { return tartest.File(name, "") }

// device is a character device 0:minor.
func device(name string, minor int64) tartest.Member {
	return tartest.Member{Header: tar.Header{Typeflag: tar.TypeChar, Name: name, Mode: 0o666, Devminor: minor}}
}

// lower is the bottom layer of the table below.
func lower(t testing.TB) []byte {
	return tartest.Archive(t, tartest.Directory("d", 0o700), tartest.File("d/a", "A"), tartest.File("d/b", "B"), tartest.Directory("d/sub", 0o711), tartest.File("d/sub/x", "X"),
		tartest.File("f", "F"), tartest.Symlink("l", "d"))
}

func TestLayersHideAndReplaceWhatLiesBelow(t *testing.T) {
	tests := map[string]struct {
		members []tartest.Member
		want    []string
	}{
		"nothing": {nil, []string{"d drwx------", `d/a -rw-r--r-- "A"`, `d/b -rw-r--r-- "B"`, "d/sub drwx--x--x", `d/sub/x -rw-r--r-- "X"`,
			`f -rw-r--r-- "F"`, "l -> d"}},
		"whiteouts": {[]tartest.Member{whiteout("d/.wh.sub"), whiteout(".wh.f"), whiteout("d/.wh.gone")},
			[]string{"d drwx------", `d/a -rw-r--r-- "A"`, `d/b -rw-r--r-- "B"`, "l -> d"}},
		"whiteout spares its own layer, marker last": {[]tartest.Member{tartest.File("d/a", "new"), whiteout("d/.wh.a"), whiteout(".wh.f"), whiteout(".wh.l"), whiteout("d/.wh.sub"), whiteout("d/.wh.b")},
			[]string{"d drwx------", `d/a -rw-r--r-- "new"`}},
		"opaque, marker first": {[]tartest.Member{whiteout("d/.wh..wh..opq"), tartest.File("d/sub/y", "Y"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{"d drwx------", "d/sub drwxr-xr-x", `d/sub/y -rw-r--r-- "Y"`}},
		"opaque, marker last": {[]tartest.Member{tartest.File("d/sub/y", "Y"), whiteout(".wh.f"), whiteout(".wh.l"), whiteout("d/.wh..wh..opq")},
			[]string{"d drwx------", "d/sub drwxr-xr-x", `d/sub/y -rw-r--r-- "Y"`}},
		"opaque root": {[]tartest.Member{tartest.File("n", "N"), whiteout(".wh..wh..opq")}, []string{`n -rw-r--r-- "N"`}},
		"directory becomes file": {[]tartest.Member{tartest.File("d", "D"), whiteout(".wh.l")},
			[]string{`d -rw-r--r-- "D"`, `f -rw-r--r-- "F"`}},
		"file becomes directory, symlink too": {[]tartest.Member{tartest.Directory("f", 0o755), tartest.File("f/g", "G"), tartest.Directory("l", 0o755), whiteout(".wh.d")},
			[]string{"f drwxr-xr-x", `f/g -rw-r--r-- "G"`, "l drwxr-xr-x"}},
		"directory takes attributes and keeps entries": {[]tartest.Member{tartest.Directory("d", 0o755), whiteout("d/.wh.sub"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{"d drwxr-xr-x", `d/a -rw-r--r-- "A"`, `d/b -rw-r--r-- "B"`}},
		"link to a file that the layer removes": {[]tartest.Member{tartest.HardLink("k", "d/a"), whiteout(".wh.d"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{`k -rw-r--r-- "A"`}},
		"link to a file that the layer replaces": {[]tartest.Member{tartest.HardLink("k", "f"), tartest.File("f", "new"), whiteout(".wh.d"), whiteout(".wh.l")},
			[]string{`f -rw-r--r-- "new"`, `k -rw-r--r-- "F"`}},
		"a directory takes the place of a lower layer's symlink": {[]tartest.Member{tartest.File("l/c", "C"), whiteout("l/.wh.a"), whiteout("d/.wh.sub"), whiteout(".wh.f")},
			[]string{"d drwx------", `d/a -rw-r--r-- "A"`, `d/b -rw-r--r-- "B"`, "l drwxr-xr-x", `l/c -rw-r--r-- "C"`}},
		"a symlink of the layer itself is followed": {[]tartest.Member{tartest.Symlink("s", "d"), tartest.File("s/c", "C"), whiteout("s/.wh.a"), whiteout("s/.wh.sub"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{"d drwx------", `d/b -rw-r--r-- "B"`, `d/c -rw-r--r-- "C"`, "s -> d"}},
		"directory made anew": {[]tartest.Member{whiteout(".wh.d"), tartest.Directory("d", 0o750), tartest.File("d/n", "N"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{"d drwxr-x---", `d/n -rw-r--r-- "N"`}},
		"directory made anew, marker last": {[]tartest.Member{tartest.Directory("d", 0o750), tartest.File("d/n", "N"), whiteout(".wh.d"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{"d drwxr-x---", `d/n -rw-r--r-- "N"`}},
		"only the last member of a name counts": {[]tartest.Member{tartest.File("d", "D"), tartest.Directory("d", 0o755), tartest.File("f", "1"), tartest.Directory("f", 0o700), tartest.File("f/x", "X"), tartest.File("f", "2"), whiteout(".wh.l"), whiteout("d/.wh.sub")},
			[]string{"d drwxr-xr-x", `d/a -rw-r--r-- "A"`, `d/b -rw-r--r-- "B"`, `f -rw-r--r-- "2"`}},
		"whiteouts of overlayfs": {[]tartest.Member{device("d/sub", 0), device("f", 0), device("gone", 0), device("l", 0)},
			[]string{"d drwx------", `d/a -rw-r--r-- "A"`, `d/b -rw-r--r-- "B"`}},
		"a whiteout of overlayfs is a member like others": {[]tartest.Member{tartest.File("d/a", "new"), device("d/a", 0), device("d/b", 0), tartest.File("d/b", "new"), device("d/sub", 0), device("f", 1), device("l", 0)},
			[]string{"d drwx------", `d/b -rw-r--r-- "new"`, `f -rw-rw-rw- ""`}},
		"link to a file that the layer hides first": {[]tartest.Member{whiteout(".wh.d"), tartest.HardLink("k", "d/a"), tartest.HardLink("m", "f"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{`k -rw-r--r-- "A"`, `m -rw-r--r-- "F"`}},
		"link to a whiteout of overlayfs": {[]tartest.Member{device("f", 0), tartest.HardLink("l", "f"), tartest.HardLink("d/b", "l"), tartest.File("l", "new"), tartest.File("g", "G"), tartest.HardLink("g", "f")},
			[]string{"d drwx------", `d/a -rw-r--r-- "A"`, "d/sub drwx--x--x", `d/sub/x -rw-r--r-- "X"`, `l -rw-r--r-- "new"`}},
		"link to a file of the layer before that of the layer below": {[]tartest.Member{tartest.File("f", "new"), tartest.HardLink("k", "f"), whiteout(".wh.d"), whiteout(".wh.l")},
			[]string{`f -rw-r--r-- "new"`, "k = f"}},
		"link through symlinks of both layers": {[]tartest.Member{tartest.Symlink("s", "l/sub"), tartest.HardLink("k", "s/x"), whiteout(".wh.d"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{`k -rw-r--r-- "X"`, "s -> l/sub"}},
		"implied directories inherit from setgid directories, marker last": {[]tartest.Member{tartest.Directory("d", 0o2775), tartest.File("d/sub/n/y", "Y"), whiteout("d/.wh..wh..opq"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{"d dgrwxrwxr-x", "d/sub dgrwxr-xr-x", "d/sub/n dgrwxr-xr-x", `d/sub/n/y -rw-r--r-- "Y"`}},
		"files of aufs are no files": {[]tartest.Member{tartest.Directory(".wh..wh.plnk", 0o700), tartest.File(".wh..wh.plnk/1.2", "?"), tartest.File(".wh..wh.aufs", ""), whiteout(".wh.d"), whiteout(".wh.l")},
			[]string{`f -rw-r--r-- "F"`}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := listing(t, lower(t), tartest.Archive(t, tc.members...))
			slices.Sort(tc.want)
			if !slices.Equal(got, tc.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
		})
	}
}

func TestDirectoriesBecomeFilesAndDirectoriesAgain(t *testing.T) {
	got := listing(t, lower(t), tartest.Archive(t, tartest.File("d", "D"), tartest.Directory("f", 0o700), tartest.File("f/x", "X"), whiteout(".wh.l")),
		tartest.Archive(t, tartest.Directory("d", 0o711), tartest.File("d/c", "C"), tartest.File("f", "again")), tartest.Archive(t, tartest.HardLink("e", "d/c"), whiteout(".wh.d")))
	if want := []string{`e -rw-r--r-- "C"`, `f -rw-r--r-- "again"`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	got = listing(t, lower(t), tartest.Archive(t, tartest.File("d", "D"), whiteout(".wh.l")), tartest.Archive(t, tartest.Directory("d", 0o711)))
	if want := []string{"d drwx--x--x", `f -rw-r--r-- "F"`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestOverlayAttributesOfLayersAreLeftOut has a layer say that overlayfs should show something else.
func TestOverlayAttributesOfLayersAreLeftOut(t *testing.T) {
	redirecting := tartest.Directory("d", 0o755)
	redirecting.Format, redirecting.PAXRecords = tar.FormatPAX, map[string]string{
		"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.trusted.other": "kept", "SCHILY.xattr.user.overlay.opaque": "y"}
	for _, layers := range []bool{true, false} {
		tree, err := applied(tartest.Archive(t, redirecting), layers)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		var names []string
		for _, x := range tree.Root().Entries[0].Inode.Xattrs {
			names = append(names, x.Name)
		}
		slices.Sort(names)
		want := []string{"trusted.other", "user.overlay.opaque"}
		if !layers { // a tar is taken as it is
			want = []string{"trusted.other", "trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque"}
		}
		if !slices.Equal(names, want) {
			t.Errorf("layers %v: attributes %q, want %q", layers, names, want)
		}
	}
}

func TestAttributesThatLinuxRefusesAreLeftOut(t *testing.T) {
	const acl = "\x02\x00\x00\x00"
	attributes := map[string]string{"SCHILY.xattr.user.x": "1", "SCHILY.xattr.trusted.x": "1", "SCHILY.xattr.system.posix_acl_access": acl, "SCHILY.xattr.system.posix_acl_default": acl}
	want := map[string]string{
		"d": "system.posix_acl_access system.posix_acl_default trusted.x user.x", "f": "system.posix_acl_access trusted.x user.x",
		"l": "trusted.x", "n": "system.posix_acl_access trusted.x",
	}
	var members []tartest.Member
	for _, m := range []tartest.Member{tartest.Directory("d", 0o755), tartest.File("f", ""), tartest.Symlink("l", "d"), device("n", 3)} {
		m.Format, m.PAXRecords = tar.FormatPAX, attributes
		members = append(members, m)
	}
	tree, err := applied(tartest.Archive(t, members...), false)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for _, e := range tree.Root().Entries {
		var names []string
		for _, x := range e.Inode.Xattrs {
			names = append(names, x.Name)
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want[e.Name] {
			t.Errorf("%q has %q, want %q", e.Name, got, want[e.Name])
		}
	}
}

func TestNonsenseWhiteoutsAreRefused(t *testing.T) {
	for _, name := range []string{".wh.", ".wh..", ".wh...", "d/.wh..."} {
		_, err := applied(lower(t), true, tartest.Archive(t, whiteout(name)))
		if err == nil || !strings.Contains(err.Error(), "makes no sense") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestWhiteoutNamesAreOrdinaryInPlainTars(t *testing.T) {
	want := []string{`.wh.f -rw-r--r-- ""`, `f -rw-r--r-- "F"`}
	if got := listing(t, tartest.Archive(t, tartest.File("f", "F"), whiteout(".wh.f"))); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEqualFilesOfAllLayersAreStoredOnce(t *testing.T) {
	big, small := strings.Repeat("big", 2<<20), strings.Repeat("small", 1000) // above and below what is hashed in memory
	tree, err := applied(tartest.Archive(t, tartest.File("a", big), tartest.File("b", small)), true,
		tartest.Archive(t, tartest.File("c", small), tartest.File("d", big), tartest.File("e", big+"!"), tartest.File("f", big[1:]+"?")))
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	s := tree.Stats()
	if want := int64(len(big) + len(small)); s.Shared != want {
		t.Errorf("%d bytes shared, want %d", s.Shared, want)
	}
	if n := len(tree.store.sink.(*memorySink).data); n != 4 {
		t.Errorf("%d pieces of data stored, want 4", n)
	}
}
