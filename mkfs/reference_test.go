package mkfs

import (
	"archive/tar"
	"bytes"
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
)

// reference applies OCI layers to a directory in the most straightforward way: first all markers to what is there, then GNU tar unpacks the
// rest over it. It also makes up the layers, from what the directory holds.
type reference struct {
	t    testing.TB
	rnd  *rand.Rand
	dir  string
	next int // for new names and contents
}

func newReference(t testing.TB, seed int64) *reference {
	r := &reference{t: t, rnd: rand.New(rand.NewSource(seed)), dir: t.TempDir()}
	r.must(os.Chmod(r.dir, 0o755))
	r.must(unix.UtimesNano(r.dir, make([]unix.Timespec, 2)))
	return r
}

func (r *reference) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// change is one thing that a layer does: markers, which may stand anywhere in the stream, and members in order.
type change struct{ markers, members []member }

// addLayer makes a layer, applies it to the directory and returns it as a tar.
func (r *reference) addLayer() []byte {
	var changes []change
	var used []string
	paths := r.paths()
	for range 16 {
		path := paths[r.rnd.Intn(len(paths))]
		if r.rnd.Intn(3) == 0 || path == "" {
			parent := path
			if info, err := os.Lstat(filepath.Join(r.dir, path)); err != nil || !info.IsDir() {
				parent = strings.TrimPrefix(filepath.Dir("/"+path), "/")
			}
			r.next++
			path = strings.TrimPrefix(fmt.Sprintf("%s/n%d", parent, r.next), "/")
		}
		if slices.ContainsFunc(used, func(u string) bool { return within(u, path) || within(path, u) }) {
			continue
		}
		used = append(used, path)
		changes = append(changes, r.change(path, &used))
	}
	var markers, members []member
	for _, c := range changes {
		markers = append(markers, c.markers...)
		members = append(members, c.members...)
	}
	r.apply(markers, members)
	all := members
	for _, m := range markers {
		all = slices.Insert(all, r.rnd.Intn(len(all)+1), m)
	}
	return archive(r.t, all...)
}

func within(dir, path string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// paths lists everything in the directory, "" being the top.
func (r *reference) paths() []string {
	var all []string
	r.must(filepath.WalkDir(r.dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, strings.TrimPrefix(strings.TrimPrefix(path, r.dir), "/"))
		return err
	}))
	return all
}

// change makes up what a layer does with a path that may or may not be there.
func (r *reference) change(path string, used *[]string) change {
	dir, base := filepath.Split(path)
	info, err := os.Lstat(filepath.Join(r.dir, path))
	exists, isDir := err == nil, err == nil && info.IsDir()
	var c change
	switch k := r.rnd.Intn(8); {
	case k == 0 && exists:
		c.markers = append(c.markers, whiteout(dir+".wh."+base))
	case k == 1 && exists: // gone and made anew
		c.markers = append(c.markers, whiteout(dir+".wh."+base))
		if !isDir || r.rnd.Intn(2) == 0 {
			c.members = append(c.members, r.directory(path))
		}
		c.members = append(c.members, r.file(path+"/again"))
	case k == 2 && isDir:
		c.markers = append(c.markers, whiteout(path+"/.wh..wh..opq"))
		for _, e := range r.children(path) {
			if r.rnd.Intn(2) == 0 && e.IsDir() {
				c.members = append(c.members, r.file(path+"/"+e.Name()+"/implied"))
			} else if r.rnd.Intn(2) == 0 {
				c.members = append(c.members, r.file(path+"/"+e.Name()))
			}
		}
	case k == 3 && isDir:
		c.members = append(c.members, r.directory(path))
	case k == 4:
		if target := r.linkTarget(used); target != "" {
			c.members = append(c.members, hardLink(path, target))
			break
		}
		fallthrough
	case k == 5:
		c.members = append(c.members, symlink(path, fmt.Sprint("to-", r.rnd.Intn(100))))
	case k == 6:
		if exists && !isDir || r.rnd.Intn(2) == 0 {
			c.members = append(c.members, r.directory(path))
		}
		if !exists || isDir || len(c.members) > 0 {
			r.next++
			c.members = append(c.members, r.file(fmt.Sprintf("%s/m%d/deep", path, r.next)), r.file(fmt.Sprintf("%s/m%d/x", path, r.next)))
		}
	default:
		c.members = append(c.members, r.file(path))
	}
	return c
}

func (r *reference) children(path string) []fs.DirEntry {
	entries, err := os.ReadDir(filepath.Join(r.dir, path))
	r.must(err)
	return entries
}

// linkTarget picks a regular file of a lower layer that no change so far touches, and notes that none may later.
func (r *reference) linkTarget(used *[]string) string {
	for _, path := range r.paths() {
		info, err := os.Lstat(filepath.Join(r.dir, path))
		r.must(err)
		if info.Mode().IsRegular() && r.rnd.Intn(3) == 0 && !slices.ContainsFunc(*used, func(u string) bool { return within(u, path) }) {
			*used = append(*used, path)
			return path
		}
	}
	return ""
}

func (r *reference) file(path string) member {
	r.next++
	m := file(path, strings.Repeat(fmt.Sprint(r.next%7, " "), r.rnd.Intn(3000)))
	m.Mode, m.Uid, m.ModTime = int64(r.rnd.Intn(0o10000)), r.rnd.Intn(100_000), time.Unix(r.rnd.Int63n(2e9), 0)
	m.Format = tar.FormatGNU
	return m
}

func (r *reference) directory(path string) member {
	// No setgid: GNU tar leaves the bit on directories that inherit it, even where their members do not have it.
	m := directory(path, int64(r.rnd.Intn(0o10000)&^0o2000))
	m.Gid, m.ModTime = r.rnd.Intn(100_000), time.Unix(r.rnd.Int63n(2e9), 0)
	return m
}

// apply changes the directory as the layer says.
func (r *reference) apply(markers, members []member) {
	times := map[string]unix.Timespec{}
	for _, path := range r.paths() {
		var st unix.Stat_t
		r.must(unix.Lstat(filepath.Join(r.dir, path), &st))
		times[path] = st.Mtim
	}
	for _, m := range markers {
		dir, base := filepath.Split(m.Name)
		if base == whiteoutOpaque {
			for _, e := range r.children(dir) {
				r.must(os.RemoveAll(filepath.Join(r.dir, dir, e.Name())))
				delete(times, dir+e.Name())
			}
			continue
		}
		r.must(os.RemoveAll(filepath.Join(r.dir, dir, strings.TrimPrefix(base, whiteoutPrefix))))
	}
	own := map[string]bool{}
	for _, m := range members {
		own[m.Name] = true
		path := filepath.Join(r.dir, m.Name)
		if info, err := os.Lstat(path); err == nil && !(info.IsDir() && m.Typeflag == tar.TypeDir) {
			r.must(os.RemoveAll(path))
		}
	}
	removed := map[string]bool{}
	for path := range times {
		if _, err := os.Lstat(filepath.Join(r.dir, path)); err != nil {
			removed[path] = true
		}
	}
	run(r.t, bytes.NewReader(archive(r.t, members...)), "tar", "-x", "-p", "--numeric-owner", "-C", r.dir, "-f", "-")
	// Unpacking changes the times of directories that the layer does not mention; those that nobody describes have time 0.
	for _, path := range r.paths() {
		info, err := os.Lstat(filepath.Join(r.dir, path))
		r.must(err)
		if !info.IsDir() || own[path] {
			continue
		}
		var ts unix.Timespec
		if !removed[path] {
			ts = times[path]
		}
		r.must(unix.UtimesNano(filepath.Join(r.dir, path), []unix.Timespec{ts, ts}))
	}
}
