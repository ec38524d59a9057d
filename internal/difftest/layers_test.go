package difftest_test

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/difftest"
	"github.com/pagein/pagein/internal/tartest"
)

// stack makes up OCI layers, each from what those below it leave, and applies them to a directory in the most straightforward way: first all
// markers to what is there, then GNU tar unpacks the rest over it.
type stack struct {
	t    testing.TB
	rnd  *rand.Rand
	dir  string
	next int // for new names and contents

	// asBuilt has layers look like those of image builders: a member for every directory on the way to a change, markers in front, no name both
	// whited out and made anew, hard links only to members of the layer.
	asBuilt bool
}

func newStack(t testing.TB, seed int64, asBuilt bool) *stack {
	s := &stack{t: t, rnd: rand.New(rand.NewSource(seed)), dir: difftest.Scratch(t), asBuilt: asBuilt}
	s.must(os.Chmod(s.dir, 0o755))
	s.must(unix.UtimesNano(s.dir, make([]unix.Timespec, 2)))
	return s
}

func (s *stack) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// change is one thing that a layer does: markers, which may stand anywhere in the stream, and members in order.
type change struct{ markers, members []tartest.Member }

// addLayer makes a layer, applies it to the directory and returns it as a tar.
func (s *stack) addLayer() []byte {
	var changes []change
	var used []string
	paths := s.paths()
	for range 16 {
		path := paths[s.rnd.Intn(len(paths))]
		if s.rnd.Intn(3) == 0 || path == "" {
			parent := path
			if info, err := os.Lstat(filepath.Join(s.dir, path)); err != nil || !info.IsDir() {
				parent = strings.TrimPrefix(filepath.Dir("/"+path), "/")
			}
			path = strings.TrimPrefix(parent+"/"+s.newName(), "/")
		}
		if slices.ContainsFunc(used, func(u string) bool { return within(u, path) || within(path, u) }) {
			continue
		}
		used = append(used, path)
		changes = append(changes, s.change(path, &used))
	}
	var markers, members []tartest.Member
	for _, c := range changes {
		markers = append(markers, c.markers...)
		members = append(members, c.members...)
	}
	if s.asBuilt {
		members = append(s.parents(markers, members), members...)
	}
	s.apply(markers, members)
	if s.asBuilt {
		return tartest.Archive(s.t, slices.Concat(markers, members)...)
	}
	all := members
	for _, m := range markers {
		all = slices.Insert(all, s.rnd.Intn(len(all)+1), m)
	}
	return tartest.Archive(s.t, all...)
}

// newName makes up a name, sometimes one that breaks careless handling.
func (s *stack) newName() string {
	s.next++
	odd := []string{"n", "n", "n", "a b", "\xff\xfe", "ü", ".wx.", "=", "new\nline", strings.Repeat("l", 120), "wh.", "..n", "%41"}
	return fmt.Sprint(odd[s.rnd.Intn(len(odd))], s.next)
}

func within(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}

// paths lists everything in the directory, "" being the top.
func (s *stack) paths() []string {
	var all []string
	s.must(filepath.WalkDir(s.dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, strings.TrimPrefix(strings.TrimPrefix(path, s.dir), "/"))
		return err
	}))
	return all
}

// change makes up what a layer does with a path that may or may not be there.
func (s *stack) change(path string, used *[]string) change {
	dir, base := filepath.Split(path)
	info, err := os.Lstat(filepath.Join(s.dir, path))
	exists, isDir := err == nil, err == nil && info.IsDir()
	var c change
	switch k := s.rnd.Intn(9); {
	case k == 0 && exists:
		c.markers = append(c.markers, tartest.File(dir+".wh."+base, ""))
	case k == 1 && exists && !s.asBuilt: // gone and made anew
		c.markers = append(c.markers, tartest.File(dir+".wh."+base, ""))
		if !isDir || s.rnd.Intn(2) == 0 {
			c.members = append(c.members, s.directory(path))
		}
		c.members = append(c.members, s.file(path+"/again"))
	case k == 2 && isDir:
		c.markers = append(c.markers, tartest.File(path+"/.wh..wh..opq", ""))
		for _, e := range s.children(path) {
			if s.rnd.Intn(2) == 0 && e.IsDir() {
				if s.asBuilt {
					c.members = append(c.members, s.directory(path+"/"+e.Name()))
				}
				c.members = append(c.members, s.file(path+"/"+e.Name()+"/implied"))
			} else if s.rnd.Intn(2) == 0 {
				c.members = append(c.members, s.file(path+"/"+e.Name()))
			}
		}
	case k == 3 && isDir:
		c.members = append(c.members, s.directory(path))
	case k == 4:
		if target := s.linkTarget(used); target != "" && !s.asBuilt {
			c.members = append(c.members, tartest.HardLink(path, target))
			break
		}
		c.members = append(c.members, s.file(path))
		for range s.rnd.Intn(3) {
			link := s.file(dir + s.newName()) // builders repeat the attributes in the members of links
			link.Header, link.Data = c.members[0].Header, ""
			link.Name, link.Typeflag, link.Linkname, link.Size = dir+s.newName(), tar.TypeLink, path, 0
			c.members = append(c.members, link)
		}
	case k == 5:
		c.members = append(c.members, s.attributed(tartest.Symlink(path, fmt.Sprint("to-", s.rnd.Intn(100)))))
	case k == 6:
		if s.asBuilt || exists && !isDir || s.rnd.Intn(2) == 0 {
			c.members = append(c.members, s.directory(path))
		}
		if !exists || isDir || len(c.members) > 0 {
			sub := path + "/" + s.newName()
			if s.asBuilt {
				c.members = append(c.members, s.directory(sub))
			}
			c.members = append(c.members, s.file(sub+"/deep"), s.file(sub+"/x"))
		}
	case k == 7:
		special := tartest.Char(path, int64(1+s.rnd.Intn(300)), int64(s.rnd.Intn(70_000)))
		if s.rnd.Intn(2) == 0 {
			special = tartest.Fifo(path)
		}
		c.members = append(c.members, s.attributed(special))
	default:
		c.members = append(c.members, s.file(path))
	}
	return c
}

func (s *stack) children(path string) []fs.DirEntry {
	entries, err := os.ReadDir(filepath.Join(s.dir, path))
	s.must(err)
	return entries
}

// linkTarget picks a regular file of a lower layer that no change so far touches, and notes that none may later.
func (s *stack) linkTarget(used *[]string) string {
	for _, path := range s.paths() {
		info, err := os.Lstat(filepath.Join(s.dir, path))
		s.must(err)
		if info.Mode().IsRegular() && s.rnd.Intn(3) == 0 && !slices.ContainsFunc(*used, func(u string) bool { return within(u, path) }) {
			*used = append(*used, path)
			return path
		}
	}
	return ""
}

func (s *stack) file(path string) tartest.Member {
	s.next++
	m := s.attributed(tartest.File(path, strings.Repeat(fmt.Sprint(s.next%7, " "), s.rnd.Intn(3000))))
	if s.rnd.Intn(6) == 0 {
		m = m.With("user.n", fmt.Sprint(s.next), "user.empty", "", "security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00"+strings.Repeat("\x00", 12))
	}
	return m
}

// directory has no setgid bit: GNU tar leaves it on directories that inherit it, even where their members do not have it.
func (s *stack) directory(path string) tartest.Member {
	m := s.attributed(tartest.Directory(path, 0))
	m.Mode &^= 0o2000
	if s.rnd.Intn(6) == 0 {
		m = m.With(fmt.Sprint("user.d", s.rnd.Intn(3)), fmt.Sprint(s.next))
	}
	return m
}

// attributed gives a member any permissions, owner and time.
func (s *stack) attributed(m tartest.Member) tartest.Member {
	m.Mode, m.Uid, m.Gid, m.ModTime = int64(s.rnd.Intn(0o10000)), s.rnd.Intn(100_000), s.rnd.Intn(100_000), time.Unix(s.rnd.Int63n(2e9), 0)
	if m.Format = tar.FormatGNU; s.rnd.Intn(2) == 0 {
		m.Format, m.ModTime = tar.FormatPAX, m.ModTime.Add(time.Duration(s.rnd.Intn(1e9)))
	}
	return m
}

// parents returns members for the directories on the way to others, as they are, the uppermost first.
func (s *stack) parents(markers, members []tartest.Member) []tartest.Member {
	described := map[string]bool{"": true}
	for _, m := range members {
		described[m.Name] = true
	}
	missing := map[string]bool{}
	for _, m := range slices.Concat(markers, members) {
		for dir := filepath.Dir(m.Name); dir != "." && dir != ""; dir = filepath.Dir(dir) {
			if !described[dir] {
				missing[dir] = true
			}
		}
	}
	var all []tartest.Member
	for dir := range missing {
		var st unix.Stat_t
		s.must(unix.Lstat(filepath.Join(s.dir, dir), &st))
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			s.t.Fatalf("%q is to hold members and is no directory", dir)
		}
		m := tartest.Directory(dir, int64(st.Mode&0o7777))
		m.Uid, m.Gid, m.ModTime = int(st.Uid), int(st.Gid), time.Unix(st.Mtim.Sec, st.Mtim.Nsec)
		m = m.With(s.xattrs(dir)...)
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b tartest.Member) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// xattrs returns the names and values of a directory's extended attributes in turn.
func (s *stack) xattrs(path string) (all []string) {
	path = filepath.Join(s.dir, path)
	var names, value [4096]byte
	n, err := unix.Llistxattr(path, names[:])
	s.must(err)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		m, err := unix.Lgetxattr(path, name, value[:])
		s.must(err)
		all = append(all, name, string(value[:m]))
	}
	return all
}

// apply changes the directory as the layer says.
func (s *stack) apply(markers, members []tartest.Member) {
	times := map[string]unix.Timespec{}
	for _, path := range s.paths() {
		var st unix.Stat_t
		s.must(unix.Lstat(filepath.Join(s.dir, path), &st))
		times[path] = st.Mtim
	}
	for _, m := range markers {
		dir, base := filepath.Split(m.Name)
		if base == ".wh..wh..opq" {
			for _, e := range s.children(dir) {
				s.must(os.RemoveAll(filepath.Join(s.dir, dir, e.Name())))
			}
			continue
		}
		s.must(os.RemoveAll(filepath.Join(s.dir, dir, strings.TrimPrefix(base, ".wh."))))
	}
	own := map[string]bool{}
	for _, m := range members {
		own[m.Name] = true
		path := filepath.Join(s.dir, m.Name)
		info, err := os.Lstat(path)
		switch {
		case err == nil && info.IsDir() && m.Typeflag == tar.TypeDir:
			for i, xattr := range s.xattrs(m.Name) { // GNU tar would leave them
				if i%2 == 0 {
					s.must(unix.Lremovexattr(path, xattr))
				}
			}
		case err == nil:
			s.must(os.RemoveAll(path))
		}
	}
	removed := map[string]bool{}
	for path := range times {
		if _, err := os.Lstat(filepath.Join(s.dir, path)); err != nil {
			removed[path] = true
		}
	}
	tartest.Extract(s.t, tartest.Archive(s.t, members...), s.dir)
	// Unpacking changes the times of directories that the layer does not mention; those that nobody describes have time 0.
	for _, path := range s.paths() {
		info, err := os.Lstat(filepath.Join(s.dir, path))
		s.must(err)
		if !info.IsDir() || own[path] {
			continue
		}
		var ts unix.Timespec
		if !removed[path] {
			ts = times[path]
		}
		s.must(unix.UtimesNano(filepath.Join(s.dir, path), []unix.Timespec{ts, ts}))
	}
}
