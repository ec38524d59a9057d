package erofs

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxDepth is how deep directories may lie in each other for [Visit]. The kernel's paths end at 4096 bytes, which is 2048 directories.
	maxDepth = 2048
	// maxPath bounds the paths themselves, in bytes: whoever visits an image may keep some.
	maxPath = 64 << 10
	// minDirent is the least that a name takes in a directory: its entry and one byte.
	minDirent = direntSize + 1
)

// Visitor is told of files by [Visit]. Leave may be nil.
type Visitor struct {
	// Enter is called for each name, with its path below the start ("." for the start itself) and how many directories that is below it. If err is not nil,
	// the file or, in a second call for a directory, what is in it cannot be read. An error that Enter returns ends the visit, but [fs.SkipDir] only keeps
	// it out of a directory.
	Enter func(path string, depth int, e Entry, h Handle, err error) error
	// Leave is called for each directory that was entered, after everything that is in it.
	Leave func(path string, h Handle) error
}

// Visit calls v's functions for start and everything below it: names in the order of their bytes, each directory before what is in it. It follows no
// symbolic link. What a truthful image cannot have is an error: directories that lie too deep, or more names than there is room for, as when
// directories share their blocks.
func Visit(start Handle, v Visitor) error {
	t := visit{Visitor: v, left: start.node.fsys.room()}
	st := start.Stat()
	err := t.file(".", 0, Entry{Name: ".", Ino: st.Ino, Type: st.Mode & unix.S_IFMT}, start)
	if errors.Is(err, fs.SkipDir) {
		return nil
	}
	return err
}

// room is how many names the image can hold.
func (fsys *FS) room() uint64 {
	bytes := uint64(fsys.size)
	for _, d := range fsys.devices {
		if d.flat > 0 { // directories can lie there too
			bytes += uint64(d.size)
		}
	}
	return bytes / minDirent
}

// Path is a path below the start of a [Visit]. It shares all but its last name with the others in its directory: unlike strings, the paths of all files take no more
// memory than their names, however deep they lie.
type Path struct {
	above *trail
	name  string
}

// trail is a directory on the way from the start, which is nil.
type trail struct {
	above *trail
	name  string
}

// Path returns the path that [Visit] tells with the entry. For other entries it is the name.
func (e Entry) Path() Path { return Path{e.above, e.Name} }

// String joins the names with slashes.
func (p Path) String() string {
	names := []string{p.name}
	for t := p.above; t != nil; t = t.above {
		names = append(names, t.name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// visit is a Visit under way.
type visit struct {
	Visitor
	left uint64 // names that there can still be
}

func (t *visit) file(path string, depth int, e Entry, h Handle) error {
	if err := t.Enter(path, depth, e, h, nil); err != nil || !h.node.isDir() {
		return err
	}
	if err := t.dir(path, depth, e, h); err != nil || t.Leave == nil {
		return err
	}
	return t.Leave(path, h)
}

func (t *visit) dir(path string, depth int, e Entry, h Handle) error {
	if depth == maxDepth {
		return fmt.Errorf("directories lie more than %d deep", maxDepth)
	}
	entries, err := h.Entries()
	if err != nil {
		return t.Enter(path, depth, e, h, err)
	}
	if uint64(len(entries)) > t.left {
		return h.node.errorf("there are more names than the image has room for: directories share their blocks")
	}
	t.left -= uint64(len(entries))
	var dir *trail
	if depth > 0 {
		dir = &trail{e.above, e.Name}
	}
	for _, e := range entries {
		below := e.Name
		if path != "." {
			below = path + "/" + e.Name
		}
		if len(below) > maxPath {
			return fmt.Errorf("a path has more than %d bytes", maxPath)
		}
		e.above = dir
		child, err := e.Handle()
		if err != nil {
			err = t.Enter(below, depth+1, e, Handle{}, err)
		} else {
			err = t.file(below, depth+1, e, child)
		}
		if err != nil && !errors.Is(err, fs.SkipDir) {
			return err
		}
	}
	return nil
}
