package mkfs

import (
	"archive/tar"
	"slices"
	"strings"
	"testing"
)

func whiteout(name string) member { return file(name, "") }

// device is a character device 0:minor.
func device(name string, minor int64) member {
	return member{Header: tar.Header{Typeflag: tar.TypeChar, Name: name, Mode: 0o666, Devminor: minor}}
}

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
		"a directory takes the place of a lower layer's symlink": {[]member{file("l/c", "C"), whiteout("l/.wh.a"), whiteout("d/.wh.sub"), whiteout(".wh.f")},
			[]string{"d drwx------", `d/a -rw-r--r-- "A"`, `d/b -rw-r--r-- "B"`, "l drwxr-xr-x", `l/c -rw-r--r-- "C"`}},
		"a symlink of the layer itself is followed": {[]member{symlink("s", "d"), file("s/c", "C"), whiteout("s/.wh.a"), whiteout("s/.wh.sub"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{"d drwx------", `d/b -rw-r--r-- "B"`, `d/c -rw-r--r-- "C"`, "s -> d"}},
		"directory made anew": {[]member{whiteout(".wh.d"), directory("d", 0o750), file("d/n", "N"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{"d drwxr-x---", `d/n -rw-r--r-- "N"`}},
		"directory made anew, marker last": {[]member{directory("d", 0o750), file("d/n", "N"), whiteout(".wh.d"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{"d drwxr-x---", `d/n -rw-r--r-- "N"`}},
		"only the last member of a name counts": {[]member{file("d", "D"), directory("d", 0o755), file("f", "1"), directory("f", 0o700), file("f/x", "X"), file("f", "2"), whiteout(".wh.l"), whiteout("d/.wh.sub")},
			[]string{"d drwxr-xr-x", `d/a -rw-r--r-- "A"`, `d/b -rw-r--r-- "B"`, `f -rw-r--r-- "2"`}},
		"whiteouts of overlayfs": {[]member{device("d/sub", 0), device("f", 0), device("gone", 0), device("l", 0)},
			[]string{"d drwx------", `d/a -rw-r--r-- "A"`, `d/b -rw-r--r-- "B"`}},
		"a whiteout of overlayfs is a member like others": {[]member{file("d/a", "new"), device("d/a", 0), device("d/b", 0), file("d/b", "new"), device("d/sub", 0), device("f", 1), device("l", 0)},
			[]string{"d drwx------", `d/b -rw-r--r-- "new"`, `f -rw-rw-rw- ""`}},
		"link to a file that the layer hides first": {[]member{whiteout(".wh.d"), hardLink("k", "d/a"), hardLink("m", "f"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{`k -rw-r--r-- "A"`, `m -rw-r--r-- "F"`}},
		"link to a whiteout of overlayfs": {[]member{device("f", 0), hardLink("l", "f"), hardLink("d/b", "l"), file("l", "new"), file("g", "G"), hardLink("g", "f")},
			[]string{"d drwx------", `d/a -rw-r--r-- "A"`, "d/sub drwx--x--x", `d/sub/x -rw-r--r-- "X"`, `l -rw-r--r-- "new"`}},
		"link to a file of the layer before that of the layer below": {[]member{file("f", "new"), hardLink("k", "f"), whiteout(".wh.d"), whiteout(".wh.l")},
			[]string{`f -rw-r--r-- "new"`, "k = f"}},
		"link through symlinks of both layers": {[]member{symlink("s", "l/sub"), hardLink("k", "s/x"), whiteout(".wh.d"), whiteout(".wh.f"), whiteout(".wh.l")},
			[]string{`k -rw-r--r-- "X"`, "s -> l/sub"}},
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

func TestDirectoriesBecomeFilesAndDirectoriesAgain(t *testing.T) {
	got := listing(t, lower(t), archive(t, file("d", "D"), directory("f", 0o700), file("f/x", "X"), whiteout(".wh.l")),
		archive(t, directory("d", 0o711), file("d/c", "C"), file("f", "again")), archive(t, hardLink("e", "d/c"), whiteout(".wh.d")))
	if want := []string{`e -rw-r--r-- "C"`, `f -rw-r--r-- "again"`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	got = listing(t, lower(t), archive(t, file("d", "D"), whiteout(".wh.l")), archive(t, directory("d", 0o711)))
	if want := []string{"d drwx--x--x", `f -rw-r--r-- "F"`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestOverlayAttributesOfLayersAreLeftOut has a layer say that overlayfs should show something else.
func TestOverlayAttributesOfLayersAreLeftOut(t *testing.T) {
	redirecting := directory("d", 0o755)
	redirecting.Format, redirecting.PAXRecords = tar.FormatPAX, map[string]string{
		"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.trusted.other": "kept", "SCHILY.xattr.user.overlay.opaque": "y"}
	for _, layers := range []bool{true, false} {
		tree, err := applied(archive(t, redirecting), layers)
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
	var members []member
	for _, m := range []member{directory("d", 0o755), file("f", ""), symlink("l", "d"), device("n", 3)} {
		m.Format, m.PAXRecords = tar.FormatPAX, attributes
		members = append(members, m)
	}
	tree, err := applied(archive(t, members...), false)
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
	if n := len(tree.store.sink.(*memorySink).data); n != 4 {
		t.Errorf("%d pieces of data stored, want 4", n)
	}
}
