package difftest_test

import (
	"archive/tar"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/difftest"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/tartest"
	"github.com/pagein/pagein/internal/treetest"
)

// TestWhereContainerdDiffers lists all that containerd's unpacking under overlayfs is known to do otherwise than OCI says or than the image's
// author can have meant. Each row is shown to be true, so that none outlives its reason.
func TestWhereContainerdDiffers(t *testing.T) {
	require.Root(t)
	type members = []tartest.Member
	file, directory := tartest.File, tartest.Directory
	old := file("f", "x")
	old.ModTime = time.Unix(-86400, 0)
	owned := tartest.HardLink("h", "f")
	owned.Uid, owned.Mode = 7, 0o600
	labelled := file("f", "x")
	labelled.Format, labelled.PAXRecords = tar.FormatPAX, map[string]string{"LIBARCHIVE.xattr.user.a": "YQ", "RHT.security.selinux": "system_u:object_r:bin_t:s0", "SCHILY.acl.access": "user::rw-,user:7:r--,group::r--,mask::r--,other::r--"}
	for name, tc := range map[string]struct {
		layers []members
		differ []string // how our result differs from containerd's: the beginnings of all lines that treetest prints
		fails  string   // what containerd says, if it unpacks nothing
	}{
		"it does not take attributes of the top": {[]members{{directory("./", 0o700)}}, []string{`".": mode`, `".": mtime`}, ""},
		"directories that no member describes have the time of unpacking": {[]members{{file("d/f", "x")}},
			[]string{`".": mtime`, `"d": mtime`}, ""},
		"a directory that needs no description takes the time of unpacking": {[]members{{directory("d", 0o750), file("d/f", "x")}, {file("d/g", "y")}},
			[]string{`".": mtime`, `"d": mtime`}, ""},
		"a directory does not inherit the bit of a setgid directory above it": {[]members{{directory("d", 0o2755), file("d/e/f", "x")}},
			[]string{`".": mtime`, `"d/e": mode 042755, want 040755`, `"d/e": mtime`}, ""},
		"a directory that is whited out and made anew keeps its entries": {[]members{{directory("d", 0o755), file("d/f", "x")}, {file(".wh.d", ""), directory("d", 0o755), file("d/g", "y")}},
			[]string{`".": mtime`, `"d/f": missing`}, ""},
		"a whiteout behind what it spares is an error": {[]members{{file("f", "x")}, {file("f", "y"), file(".wh.f", "")}}, nil, "file exists"},
		"a hard link to a lower layer is an error":     {[]members{{file("f", "x")}, {tartest.HardLink("h", "f")}}, nil, "no such file"},
		"a file takes the attributes of the members of its hard links": {[]members{{file("f", "x"), owned}},
			[]string{`".": mtime`, `"f": mode`, `"f": mtime`, `"f": owner`, `"h": mode`, `"h": mtime`, `"h": owner`}, ""},
		"a directory below an opaque one takes the attributes of one that is hidden": {[]members{{directory("d", 0o755), directory("d/e", 0o700)}, {directory("d", 0o755), file("d/.wh..wh..opq", "")}, {file("d/e/f", "x")}},
			[]string{`".": mtime`, `"d": mtime`, `"d/e": mode 040755, want 040700`, `"d/e": mtime`}, ""},
		"an opaque top is none":           {[]members{{file("f", "x")}, {file(".wh..wh..opq", ""), file("g", "y")}}, []string{`".": mtime`, `"f": missing`}, ""},
		"times before 1970 become 1970":   {[]members{{old}}, []string{`".": mtime`, `"f": mtime -86400.000000000, want 0.000000000`}, ""},
		"trusted attributes are left out": {[]members{{file("f", "x").With("trusted.a", "b", "user.a", "b")}}, []string{`".": mtime`, `"f": xattr trusted.a unexpected`}, ""},
		"attributes are known in the form of star alone": {[]members{{labelled}},
			[]string{`".": mtime`, `"f": xattr security.selinux unexpected`, `"f": xattr system.posix_acl_access unexpected`, `"f": xattr user.a unexpected`}, ""},
		"directories of aufs are no directories of the image": {[]members{{directory(".wh..wh.plnk", 0o700), file(".wh..wh.plnk/1.2", "x")}},
			[]string{`".": mtime`, `".wh..wh.plnk": missing`, `".wh..wh.plnk/1.2": missing`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var layers [][]byte
			for _, l := range tc.layers {
				layers = append(layers, tartest.Archive(t, l...))
			}
			ours := difftest.Mount(t, artifactOfLayers(t, layers...))
			theirs, err := unpacked(t, layers...)
			if tc.fails != "" || err != nil {
				if tc.fails == "" || err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Errorf("containerd says %v, want %q", err, tc.fails)
				}
				return
			}
			diffs, err := treetest.Diff(difftest.Overlay(t, theirs...), ours, treetest.Options{})
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(diffs)
			if !slices.EqualFunc(diffs, tc.differ, strings.HasPrefix) {
				t.Errorf("the trees differ in\n%s\nwant\n%s", strings.Join(diffs, "\n"), strings.Join(tc.differ, "\n"))
			}
		})
	}
}

// TestLinkCountsOfOverlayfsAreStale shows the one thing that overlayfs itself gets wrong: links that an upper layer hides are counted.
func TestLinkCountsOfOverlayfsAreStale(t *testing.T) {
	require.Root(t)
	layers := [][]byte{
		tartest.Archive(t, tartest.File("f", "x"), tartest.HardLink("h", "f")),
		tartest.Archive(t, tartest.File(".wh.h", "")),
	}
	for _, tc := range []struct {
		dir  string
		want uint64
	}{{difftest.Mount(t, artifactOfLayers(t, layers...)), 1}, {containerd(t, layers...), 2}} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(tc.dir, "f"), &st); err != nil || uint64(st.Nlink) != tc.want {
			t.Errorf("%s: %d links, want %d (%v)", tc.dir, st.Nlink, tc.want, err)
		}
	}
}

// TestFormsOfWhiteoutsEqualThoseOfContainerd has what hides something in forms that random stacks do not have.
func TestFormsOfWhiteoutsEqualThoseOfContainerd(t *testing.T) {
	require.Root(t)
	lower := []tartest.Member{tartest.Directory("d", 0o750), tartest.File("d/a", "A"), tartest.Directory("d/e", 0o711), tartest.File("d/e/b", "B"), tartest.File("f", "F"), tartest.Symlink("l", "d")}
	link := tartest.File("g", "")
	link.Typeflag, link.Linkname = tar.TypeLink, "f"
	for name, upper := range map[string][]tartest.Member{
		"device":                         {tartest.Directory("d", 0o750), tartest.Char("d/a", 0, 0), tartest.Char("f", 0, 0), tartest.Char("gone", 0, 0)},
		"device over a directory":        {tartest.Char("d", 0, 0)},
		"device, then a file":            {tartest.Char("f", 0, 0), tartest.File("f", "new")},
		"file, then a device":            {tartest.File("f", "new"), tartest.Char("f", 0, 0)},
		"links of one device":            {tartest.Char("f", 0, 0), tartest.HardLink("l", "f"), tartest.HardLink("d", "l")},
		"other devices":                  {tartest.Char("f", 0, 1), tartest.Char("l", 1, 0)},
		"attribute of overlayfs":         {tartest.Directory("d", 0o750).With("trusted.overlay.opaque", "y")},
		"attribute for users":            {tartest.Directory("d", 0o750).With("user.overlay.opaque", "y")},
		"opaque":                         {tartest.Directory("d", 0o700), tartest.File("d/.wh..wh..opq", ""), tartest.File("d/c", "C")},
		"whiteout of nothing":            {tartest.File(".wh.nothing", "")},
		"whiteout of a symlink":          {tartest.File(".wh.l", "")},
		"below a symlink of below":       {tartest.Directory("l", 0o700), tartest.File("l/a", "new")},
		"below a symlink of the layer":   {tartest.Directory("d", 0o750), tartest.Symlink("s", "d"), tartest.File("s/new", "n")},
		"file and directory in turn":     {tartest.File("d", "D"), tartest.Directory("d", 0o700)},
		"link to a file that is renewed": {tartest.File("f", "new"), link, tartest.File("f", "newer")},
	} {
		t.Run(name, func(t *testing.T) {
			layers := [][]byte{tartest.Archive(t, lower...), tartest.Archive(t, upper...), tartest.Archive(t, tartest.File("last", "one"))}
			ours := difftest.Mount(t, artifactOfLayers(t, layers...))
			treetest.CompareWith(t, containerd(t, layers...), ours, treetest.Options{IgnoreRoot: true})
			if _, err := os.Lstat(filepath.Join(ours, "last")); err != nil {
				t.Error(err)
			}
		})
	}
}
