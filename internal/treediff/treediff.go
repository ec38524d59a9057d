// Package treediff compares two EROFS trees: names, types, attributes, hard-link structure and contents.
//
// It reads no more data than it must: holes are not compared with holes, and what lies at the same place of the same blob is equal. How an image stores its
// tree is no difference. It knows erofs and nothing else; whatever else is to be compared is made an image first.
package treediff

import (
	"context"
	"fmt"
	"iter"

	"github.com/pagein/pagein/erofs"
)

// Kind says how a path differs.
type Kind string

const (
	Added   Kind = "added"   // only in the second tree
	Removed Kind = "removed" // only in the first tree
	Changed Kind = "changed" // in both
)

// Difference is a path that differs. Of a directory that is in one tree only, each name in it is a difference of its own.
type Difference struct {
	Path  string // "." is the root
	Kind  Kind
	Mode  uint32 // st_mode in the second tree or, of what was removed, in the first
	Attrs []Attr // Changed: what differs
	Err   error  // the file cannot be read in one of the trees; Kind and Attrs say nothing then
}

// Attr is an attribute that differs.
type Attr struct {
	Name string // type, mode, owner, size, mtime, device, target, links, content, or "xattr NAME"
	A, B string // in the first and in the second tree, for people
}

// Options of [Compare]. The zero value compares everything.
type Options struct {
	// Ignore names attributes that may differ, as in [Attr]; "xattr" stands for all extended attributes.
	Ignore map[string]bool
	// SameBlob reports whether a device of the first and one of the second tree are surely the same. nil means that none are.
	SameBlob func(a, b uint16) bool
}

// Compare calls report for each difference between two trees, in the order of paths. Contents are compared on all processors. Its error says that there was no going on,
// that report failed, or that ctx ended.
func Compare(ctx context.Context, a, b *erofs.FS, o Options, report func(Difference) error) error {
	c := &comparison{
		o:     o,
		a:     side{fs: a, name: "first", links: map[uint64]erofs.Path{}},
		b:     side{fs: b, name: "second", links: map[uint64]erofs.Path{}},
		queue: newQueue(ctx),
	}
	err := c.queue.run(c.merge, report)
	for _, s := range []*side{&c.a, &c.b} {
		if s.err != nil {
			return fmt.Errorf("compare trees: %s tree: %w", s.name, s.err)
		}
	}
	if err != nil {
		return fmt.Errorf("compare trees: %w", err)
	}
	return nil
}

// comparison is a Compare under way.
type comparison struct {
	o     Options
	a, b  side
	queue *queue
}

// side is one of the trees.
type side struct {
	fs    *erofs.FS
	name  string
	links map[uint64]erofs.Path // the first path of each inode that may have several
	err   error                 // why the visit ended early
}

// file is one path of a side.
type file struct {
	path  string
	h     erofs.Handle
	st    erofs.Stat
	first string // the first path of the same inode
	err   error
}

// files yields the tree in the order of a visit.
func (s *side) files() iter.Seq[file] {
	return func(yield func(file) bool) {
		root, err := s.fs.Root()
		if err != nil {
			s.err = err
			return
		}
		stopped := false
		s.err = erofs.Visit(root, erofs.Visitor{Enter: func(path string, _ int, e erofs.Entry, h erofs.Handle, err error) error {
			f := file{path: path, h: h, err: err, first: path}
			if err == nil {
				f.st = h.Stat()
				f.first = s.first(path, e, f.st)
			}
			if stopped = !yield(f); stopped {
				return errStopped
			}
			return nil
		}})
		if stopped {
			s.err = nil
		}
	}
}

// merge goes through both trees side by side.
func (c *comparison) merge() error {
	nextA, stopA := iter.Pull(c.a.files())
	defer stopA()
	nextB, stopB := iter.Pull(c.b.files())
	defer stopB()
	a, okA := nextA()
	b, okB := nextB()
	for okA || okB {
		var err error
		order := comparePaths(a.path, b.path)
		switch {
		case !okB || okA && order < 0:
			err = c.only(a, Removed)
			a, okA = nextA()
		case !okA || order > 0:
			err = c.only(b, Added)
			b, okB = nextB()
		default:
			if a.err != nil || b.err != nil {
				err = c.unreadable(a, b)
			} else {
				err = c.pair(a, b)
			}
			a, okA = nextA()
			b, okB = nextB()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// comparePaths orders paths as a visit meets them: a directory's contents come directly behind it.
func comparePaths(a, b string) int {
	if a == "." || b == "." { // the root is first, and in both trees
		return rank(a) - rank(b)
	}
	for i := range min(len(a), len(b)) {
		if x, y := a[i], b[i]; x != y {
			switch {
			case x == '/':
				return -1
			case y == '/':
				return 1
			}
			return int(x) - int(y)
		}
	}
	return len(a) - len(b)
}

func rank(path string) int {
	if path == "." {
		return 0
	}
	return 1
}
