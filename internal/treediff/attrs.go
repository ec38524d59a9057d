package treediff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// first returns the first path that led to an inode.
func (s *side) first(path string, e erofs.Entry, st erofs.Stat) string {
	if st.Nlink < 2 || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return path
	}
	if first, ok := s.links[st.Ino]; ok {
		return first.String()
	}
	s.links[st.Ino] = e.Path()
	return path
}

// only takes a path that one tree has.
func (c *comparison) only(f file, kind Kind) error {
	return c.queue.add(Difference{Path: f.path, Kind: kind, Mode: f.st.Mode, Err: f.err}, nil)
}

// unreadable takes a path that both trees have, but of which one does not say more.
func (c *comparison) unreadable(a, b file) error {
	err := errors.Join(prefixed("first tree", a.err), prefixed("second tree", b.err))
	return c.queue.add(Difference{Path: a.path, Kind: Changed, Mode: b.st.Mode, Err: err}, nil)
}

func prefixed(tree string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", tree, err)
}

// pair takes a path that both trees have.
func (c *comparison) pair(a, b file) error {
	d := Difference{Path: a.path, Kind: Changed, Mode: b.st.Mode}
	differs := func(name, x, y string) {
		if x != y && !c.o.Ignore[name] {
			d.Attrs = append(d.Attrs, Attr{name, x, y})
		}
	}
	if a.first != b.first {
		differs("links", linkName(a), linkName(b))
	} else if a.first != a.path {
		return nil // the first names of both inodes were compared
	}
	kind := a.st.Mode & unix.S_IFMT
	if kind != b.st.Mode&unix.S_IFMT {
		differs("type", erofs.TypeName(a.st.Mode), erofs.TypeName(b.st.Mode))
		return c.queue.add(d, nil)
	}
	differs("mode", fmt.Sprintf("%04o", a.st.Mode&0o7777), fmt.Sprintf("%04o", b.st.Mode&0o7777))
	differs("owner", fmt.Sprintf("%d:%d", a.st.UID, a.st.GID), fmt.Sprintf("%d:%d", b.st.UID, b.st.GID))
	differs("mtime", timeName(a.st), timeName(b.st))
	if !c.o.Ignore["xattr"] {
		if d.Err = xattrs(a.h, b.h, differs); d.Err != nil {
			return c.queue.add(d, nil)
		}
	}
	switch kind {
	case unix.S_IFCHR, unix.S_IFBLK:
		differs("device", deviceName(a.st), deviceName(b.st))
	case unix.S_IFLNK:
		d.Err = targets(a.h, b.h, differs)
	case unix.S_IFREG:
		differs("size", strconv.FormatInt(a.st.Size, 10), strconv.FormatInt(b.st.Size, 10))
		if a.st.Size == b.st.Size && a.st.Size > 0 && !c.o.Ignore["content"] {
			return c.queue.add(d, func(ctx context.Context, d *Difference) { c.settleContents(ctx, d, a, b) })
		}
	}
	if d.Err == nil && len(d.Attrs) == 0 {
		return nil
	}
	return c.queue.add(d, nil)
}

// linkName says of which file a name is another one.
func linkName(f file) string {
	if f.first == f.path {
		return "-"
	}
	return strconv.Quote(f.first)
}

func timeName(st erofs.Stat) string {
	return time.Unix(st.Mtime, int64(st.MtimeNsec)).UTC().Format(time.RFC3339Nano)
}

func deviceName(st erofs.Stat) string {
	major, minor := erofs.SplitRdev(st.Rdev)
	return fmt.Sprintf("%d,%d", major, minor)
}

func targets(a, b erofs.Handle, differs func(name, x, y string)) error {
	x, err := a.Target()
	if err != nil {
		return fmt.Errorf("first tree: %w", err)
	}
	y, err := b.Target()
	if err != nil {
		return fmt.Errorf("second tree: %w", err)
	}
	differs("target", strconv.Quote(x), strconv.Quote(y))
	return nil
}

// maxShown is how many bytes of an attribute's value are worth showing.
const maxShown = 64

func xattrs(a, b erofs.Handle, differs func(name, x, y string)) error {
	x, err := sortedXattrs(a)
	if err != nil {
		return fmt.Errorf("first tree: %w", err)
	}
	y, err := sortedXattrs(b)
	if err != nil {
		return fmt.Errorf("second tree: %w", err)
	}
	for len(x) > 0 || len(y) > 0 {
		switch {
		case len(y) == 0 || len(x) > 0 && x[0].Name < y[0].Name:
			differs("xattr "+x[0].Name, valueName(x[0].Value), "-")
			x = x[1:]
		case len(x) == 0 || x[0].Name > y[0].Name:
			differs("xattr "+y[0].Name, "-", valueName(y[0].Value))
			y = y[1:]
		default:
			if u, v := valueName(x[0].Value), valueName(y[0].Value); !slices.Equal(x[0].Value, y[0].Value) {
				if u == v {
					v += " (a later byte differs)"
				}
				differs("xattr "+x[0].Name, u, v)
			}
			x, y = x[1:], y[1:]
		}
	}
	return nil
}

func sortedXattrs(h erofs.Handle) ([]erofs.Xattr, error) {
	list, err := h.Xattrs()
	slices.SortFunc(list, func(a, b erofs.Xattr) int { return cmp.Compare(a.Name, b.Name) })
	return list, err
}

func valueName(b []byte) string {
	if len(b) > maxShown {
		return fmt.Sprintf("%q… (%d bytes)", b[:maxShown], len(b))
	}
	return strconv.Quote(string(b))
}
