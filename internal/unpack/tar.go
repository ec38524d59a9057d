package unpack

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// minHole is how long holes must be in all for a file to become a sparse member, in bytes: the map of one takes a block or two.
const minHole = 4096

// Tar writes the tree as a tar stream in the PAX format: members in the order of their paths, each directory before what is in it, the root as "./". The same
// tree gives the same bytes. Sparse files become sparse members (GNU's format 1.0); a hard link names the first path of its file; sockets, for which tar has no
// type, are left out with a note.
func Tar(ctx context.Context, fsys *erofs.FS, w io.Writer, o Options) (Stats, error) {
	o.complete()
	out := bufio.NewWriterSize(w, pieceSize)
	a := &archiver{ctx: ctx, o: o, notes: notes{say: o.Note}, w: out, buf: make([]byte, pieceSize), block: int64(fsys.Super().BlockSize), links: map[uint64]erofs.Path{}}
	root, err := fsys.Root()
	if err == nil {
		err = erofs.Visit(root, erofs.Visitor{Enter: a.enter})
	}
	if err == nil {
		err = a.end()
	}
	if err != nil {
		return a.result(), fmt.Errorf("write tar: %w", err)
	}
	return a.result(), nil
}

// archiver is a Tar under way.
type archiver struct {
	ctx   context.Context
	o     Options
	notes notes
	stats Stats
	w     *bufio.Writer
	buf   []byte
	block int64                 // size of the image's blocks
	links map[uint64]erofs.Path // the first path of inodes that have several
}

func (a *archiver) result() Stats {
	s := a.stats
	s.Lost = a.notes.lost
	return s
}

// end writes the two blocks of zeros that end a stream.
func (a *archiver) end() error {
	if _, err := a.w.Write(make([]byte, 2*tarBlock)); err != nil {
		return err
	}
	return a.w.Flush()
}

func (a *archiver) enter(path string, _ int, e erofs.Entry, h erofs.Handle, err error) error {
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	if err == nil && fileType(h.Stat()) == unix.S_IFSOCK {
		a.notes.lose("sockets", path, errNoType)
		return nil
	}
	if err == nil {
		err = a.member(path, e, h)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	a.stats.Names++
	a.o.Progress(a.result())
	return nil
}

// member writes one member.
func (a *archiver) member(path string, e erofs.Entry, h erofs.Handle) error {
	st := h.Stat()
	m := member{name: path, mode: st.Mode & 0o7777, uid: st.UID, gid: st.GID, mtime: st.Mtime, nsec: st.MtimeNsec}
	if fileType(st) != unix.S_IFDIR {
		if first, ok := a.links[st.Ino]; ok {
			m.kind, m.link = typeLink, first.String()
			return m.write(a.w)
		}
		if st.Nlink > 1 {
			a.links[st.Ino] = e.Path()
		}
	}
	var err error
	if m.xattrs, err = h.Xattrs(); err != nil {
		return err
	}
	switch fileType(st) {
	case unix.S_IFREG:
		m.kind = typeRegular
		return a.regular(m, h, st)
	case unix.S_IFDIR:
		m.kind = typeDir
		m.name += "/"
	case unix.S_IFLNK:
		m.kind = typeSymlink
		if m.link, err = h.Target(); err != nil {
			return err
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		m.kind = typeChar
		if fileType(st) == unix.S_IFBLK {
			m.kind = typeBlock
		}
		m.major, m.minor = erofs.SplitRdev(st.Rdev)
	case unix.S_IFIFO:
		m.kind = typeFifo
	}
	return m.write(a.w)
}

// regular writes a regular file with its data.
func (a *archiver) regular(m member, h erofs.Handle, st erofs.Stat) error {
	list, err := spans(h, st, a.block, a.o.Zero)
	if err != nil {
		return err
	}
	data := int64(0)
	for _, s := range list {
		data += s.len
	}
	m.size = st.Size
	if st.Size-data >= minHole {
		list, data = coarsen(list, data)
		m.sparse, m.realSize = sparseMap(list, st.Size), st.Size
		m.size = data + int64(len(m.sparse))
	} else {
		list, data = []span{{0, st.Size}}, st.Size
	}
	if err := m.write(a.w); err != nil {
		return err
	}
	if _, err := a.w.Write(m.sparse); err != nil {
		return err
	}
	for _, s := range list {
		if err := copySpan(h, s, a.buf, a.data); err != nil {
			return err
		}
	}
	_, err = a.w.Write(make([]byte, -data&(tarBlock-1)))
	return err
}

func (a *archiver) data(b []byte, _ int64) error {
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	n, err := a.w.Write(b)
	a.stats.Bytes += int64(n)
	return err
}
