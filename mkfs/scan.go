package mkfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/mkfs/internal/tarstream"
)

// A tar is scanned before anything of it is put into a tree. Scanning reads the stream and hands file data on; it knows one stream only, so layers
// can be scanned at the same time. Merging (see merge.go) knows the rules of trees and needs no data.

// collector takes the data of the files of one source.
type collector interface {
	// add takes the data of a regular file, of which r gives the spans of the layout one after the other, and sees to it that the inode knows its Size, and
	// by the time the tree is finished where its data lies. The name is where the source has the file.
	add(name string, ino *erofs.Inode, l layout, r io.Reader) error
}

// scanned is what a tar stream holds, without the data.
type scanned struct {
	rules   rules
	members []tarMember
	notes   notes
}

// tarMember is one member of a tar.
type tarMember struct {
	name string       // as in the stream
	link string       // of a hard link: the name that it leads to
	ino  *erofs.Inode // nil for hard links, and for markers of layers
}

// scanner reads one tar stream.
type scanner struct {
	scanned
	data collector
	held *atomic.Int64 // by all tars of the tree: see maxHeld
}

const (
	// maxHeld bounds what the members of all tars of a tree take in memory, in bytes: a compressed layer of a few megabytes can hold millions of members, or
	// gigabytes of extended attributes. It is enough for 7 million files.
	maxHeld = 4 << 30
	// memberBytes is what a member takes besides its names and attributes, about.
	memberBytes = 500
)

// hold counts what a member takes.
func (s *scanner) hold(h *tarstream.Header) error {
	n := memberBytes + len(h.Name) + len(h.Link)
	for _, x := range h.Xattrs {
		n += len(x.Name) + len(x.Value)
	}
	if s.held.Add(int64(n)) > maxHeld {
		return fmt.Errorf("names and attributes would take more than %d GiB of memory: no real image is like that", maxHeld>>30)
	}
	return nil
}

// scanBuffer holds headers. File data in larger pieces passes it by, as r is buffered.
const scanBuffer = 16 << 10

// errNothing is the error of a stream that ends at once, as after a producer that failed. A tar without members has its end marker.
var errNothing = errors.New("the stream holds no member and no end marker: it is no tar, or what should have written it failed")

// scanTar reads a plain tar stream to the end of r. Several can be read at the same time.
func (t *Tree) scanTar(ctx context.Context, r io.Reader, data collector, rules rules) (*scanned, error) {
	s := &scanner{scanned: scanned{rules: rules}, data: data, held: &t.held}
	buffered := bufio.NewReaderSize(contextReader{ctx, r}, scanBuffer)
	tr := tarstream.NewReader(buffered)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := s.member(h, tr); err != nil {
			return nil, fmt.Errorf("member %q: %w", h.Name, err)
		}
	}
	if !tr.Terminated() {
		if len(s.members) == 0 && rules != layerOfStack { // of an image, whose digest says that nothing is missing
			return nil, errNothing
		}
		s.notes.once("", "the tar stream has no end marker: if members are missing, it was cut off")
	}
	// Checksums of compressed streams stand at their end, and the caller may compute a digest of all of r.
	if _, err := io.Copy(io.Discard, buffered); err != nil {
		return nil, fmt.Errorf("read what follows the last member: %w", err)
	}
	return &s.scanned, nil
}

func (s *scanner) member(h *tarstream.Header, data io.Reader) error {
	if err := s.hold(h); err != nil {
		return err
	}
	m := tarMember{name: h.Name}
	parts, err := splitPath(h.Name)
	if err != nil {
		return err
	}
	switch {
	case s.rules != plainTar && isMarker(parts):
	case h.Type == tarstream.TypeLink:
		m.link = h.Link
	default:
		if m.ino, err = s.inode(h, data); err != nil {
			return err
		}
	}
	s.members = append(s.members, m)
	return nil
}

// inode makes the inode of a member that is no hard link and hands its data on.
func (s *scanner) inode(h *tarstream.Header, data io.Reader) (*erofs.Inode, error) {
	ino := &erofs.Inode{Mode: h.Mode, UID: h.UID, GID: h.GID, Mtime: h.Mtime, MtimeNsec: h.MtimeNsec}
	for _, x := range h.Xattrs {
		switch {
		case !storableXattr(x.Name):
			s.notes.xattr(h.Name, x.Name)
			continue
		case !canHaveXattr(h.Type, x.Name):
			s.notes.once(x.Name+" ", fmt.Sprintf("extended attribute %q of %q, and of other files that have it and are not of a type that can, is left out", x.Name, h.Name))
			continue
		}
		ino.Xattrs = append(ino.Xattrs, erofs.Xattr{Name: x.Name, Value: x.Value})
	}
	for _, l := range h.LeftOut {
		s.notes.once(l.Key, fmt.Sprintf("%s of %q, and of others of which it cannot be kept, is left out: %s; only ACLs of POSIX with numbers for users and groups can be kept", l.Key, h.Name, l.Why))
	}
	switch h.Type {
	case tarstream.TypeDir:
		ino.Mode |= unix.S_IFDIR
	case tarstream.TypeSymlink:
		ino.Mode = unix.S_IFLNK | 0o777 // what lstat shows, whatever the member says
		ino.Target = h.Link
		if h.Link == "" || len(h.Link) > maxTargetLen || strings.IndexByte(h.Link, 0) >= 0 {
			return nil, fmt.Errorf("target of %d bytes: want 1 to %d without NUL", len(h.Link), maxTargetLen)
		}
	case tarstream.TypeChar:
		ino.Mode |= unix.S_IFCHR
		ino.Rdev = erofs.MakeRdev(h.Major, h.Minor)
	case tarstream.TypeBlock:
		ino.Mode |= unix.S_IFBLK
		ino.Rdev = erofs.MakeRdev(h.Major, h.Minor)
	case tarstream.TypeFifo:
		ino.Mode |= unix.S_IFIFO
	case tarstream.TypeRegular:
		ino.Mode |= unix.S_IFREG
		return ino, s.file(ino, h, data)
	}
	return ino, nil
}

// file hands the data of a regular member on.
func (s *scanner) file(ino *erofs.Inode, h *tarstream.Header, data io.Reader) error {
	l := whole(h.Size)
	if h.Sparse {
		spans := make([]span, len(h.Spans))
		for i, s := range h.Spans {
			spans[i] = span{s.Off, s.Len}
		}
		if err := (layout{size: h.Size}).check(); err != nil {
			return err
		}
		l = sparse(h.Size, spans)
		data = &widened{r: data, data: spans, spans: append([]span(nil), l.spans...)}
	}
	if err := l.check(); err != nil {
		return err
	}
	ino.Size = h.Size
	if len(l.spans) == 0 {
		return nil
	}
	err := s.data.add(h.Name, ino, l, data)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// storableXattr reports whether EROFS has a place for an attribute.
func storableXattr(name string) bool {
	for _, prefix := range []string{"user.", "trusted.", "security."} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return rest != "" && len(name) <= maxNameLen && strings.IndexByte(rest, 0) < 0
		}
	}
	return name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

// canHaveXattr reports whether Linux lets a file of a type have an attribute: users' attributes are for files and directories, ACLs for what has
// permissions.
func canHaveXattr(kind byte, name string) bool {
	switch {
	case strings.HasPrefix(name, "user."):
		return kind == tarstream.TypeRegular || kind == tarstream.TypeDir
	case name == "system.posix_acl_default":
		return kind == tarstream.TypeDir
	case name == "system.posix_acl_access":
		return kind != tarstream.TypeSymlink
	}
	return true
}
