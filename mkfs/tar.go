package mkfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/mkfs/internal/tarstream"
)

// apply puts the members of a plain tar stream into the tree as its next layer and reads r to its end.
func (t *Tree) apply(ctx context.Context, r io.Reader, sink Sink, whiteouts bool) error {
	if t.top == nil {
		t.top = newNode(impliedDir(nil), 0)
	}
	t.layer++
	buffered := bufio.NewReaderSize(contextReader{ctx, r}, 128<<10)
	tr := tarstream.NewReader(buffered)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := t.member(h, tr, sink, whiteouts); err != nil {
			return fmt.Errorf("member %q: %w", h.Name, err)
		}
	}
	if !tr.Terminated() {
		t.opts.Note("the tar stream has no end marker: if members are missing, it was cut off")
	}
	// Checksums of compressed streams stand at their end, and the caller may compute a digest of all of r.
	if _, err := io.Copy(io.Discard, buffered); err != nil {
		return fmt.Errorf("read what follows the last member: %w", err)
	}
	return nil
}

// member puts one member into the tree.
func (t *Tree) member(h *tarstream.Header, data io.Reader, sink Sink, whiteouts bool) error {
	parts, err := splitPath(h.Name)
	if err != nil {
		return err
	}
	if whiteouts {
		if marker, err := t.whiteout(parts); marker || err != nil {
			return err
		}
	}
	if h.Type == tarstream.TypeLink {
		return t.hardLink(parts, h.Link)
	}
	ino, err := t.inode(h, data, sink)
	if err != nil {
		return err
	}
	return t.place(parts, ino)
}

// hardLink puts a further name of an inode that is in the tree.
func (t *Tree) hardLink(parts []string, target string) error {
	to, err := splitPath(target)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	n, err := t.lookup(to)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	if n.ino.IsDir() {
		return fmt.Errorf("hard link to %q: it is a directory", target)
	}
	return t.place(parts, n.ino)
}

// inode makes the inode of a member that is no hard link and stores its data.
func (t *Tree) inode(h *tarstream.Header, data io.Reader, sink Sink) (*erofs.Inode, error) {
	ino := &erofs.Inode{Mode: h.Mode, UID: h.UID, GID: h.GID, Mtime: h.Mtime, MtimeNsec: h.MtimeNsec}
	for _, x := range h.Xattrs {
		if !storableXattr(x.Name) {
			t.noteXattr(h.Name, x.Name)
			continue
		}
		ino.Xattrs = append(ino.Xattrs, erofs.Xattr{Name: x.Name, Value: x.Value})
	}
	for _, key := range h.LeftOut {
		t.noteOnce(key, fmt.Sprintf("%s of %q, and of other files that have it, is left out: only ACLs of POSIX with numbers for users and groups can be kept", key, h.Name))
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
		return ino, t.tarData(ino, h, data, sink)
	}
	return ino, nil
}

// tarData stores the data of a regular member.
func (t *Tree) tarData(ino *erofs.Inode, h *tarstream.Header, data io.Reader, sink Sink) error {
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
	c, err := t.store.addStream(l, data, sink)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	ino.Size, ino.Extents, ino.Inline = h.Size, c.extents, c.inline
	return nil
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
