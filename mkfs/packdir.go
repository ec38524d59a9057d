package mkfs

import (
	"context"
	"errors"
	"io"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// scanDir reads a directory tree and hands the data of its files to a collector, one after the other: who wants it in parallel does so behind the collector.
func (t *Tree) scanDir(ctx context.Context, dir string, data collector) (root *erofs.Inode, err error) {
	top, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	o, err := newOpener(top)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	found, err := t.walker(o).walk(ctx)
	if err != nil {
		return nil, err
	}
	files, _ := t.gather(found)
	for i := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := collect(ctx, o, &files[i], data); err != nil {
			return nil, err
		}
	}
	return found.ino, nil
}

// collect hands the data of one file on.
func collect(ctx context.Context, o *opener, f *sourceFile, data collector) error {
	fd, err := o.open(f)
	if err != nil {
		return err
	}
	l, err := layoutOf(fd, f)
	if err == nil && len(l.spans) > 0 {
		err = data.add(f.dir+f.name, f.ino, l, contextReader{ctx, &spanStream{fd: fd, spans: l.spans}})
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return o.fail(f, err)
	}
	return nil
}

// spanStream reads the spans of an open file one after the other.
type spanStream struct {
	fd    int
	spans []span
	done  int64 // bytes of the first span that were read
}

func (s *spanStream) Read(p []byte) (int, error) {
	if len(s.spans) == 0 {
		return 0, io.EOF
	}
	at := s.spans[0]
	n := min(int64(len(p)), at.len-s.done)
	if err := readAt(s.fd, p[:n], at.off+s.done); err != nil {
		return 0, err
	}
	if s.done += n; s.done == at.len {
		s.spans, s.done = s.spans[1:], 0
	}
	return int(n), nil
}
