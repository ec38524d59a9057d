package mkfs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/pagein/pagein/erofs"
)

// AddDir fills an empty tree from a directory. It follows no symbolic link below dir, keeps hard links and holes, and leaves out sockets and
// what [Options] exclude, with a note each. Files must not change meanwhile: one that shrinks, or is replaced by another, is an error.
func (t *Tree) AddDir(ctx context.Context, dir string, sink Sink) error {
	if err := t.begin(); err != nil {
		return err
	}
	if err := t.addDir(ctx, dir, sink); err != nil {
		return fmt.Errorf("read directory %s: %w", dir, err)
	}
	return nil
}

func (t *Tree) addDir(ctx context.Context, dir string, sink Sink) (err error) {
	top, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	o, err := newOpener(top)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	w := t.walker(o)
	root, err := w.walk(ctx)
	if err != nil {
		return err
	}
	t.root = root.ino
	files, sizes := t.gather(root)
	return t.loadFiles(ctx, o, files, sizes, sink)
}

func (t *Tree) walker(o *opener) *walker {
	w := &walker{top: o, exclude: map[fileID]bool{}, skip: t.opts.Skip, links: map[fileID]*erofs.Inode{}}
	for _, info := range t.opts.Exclude {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			w.exclude[fileID{st.Dev, st.Ino}] = true
		}
	}
	return w
}

// gather lists the files that a walk found, in the order in which their data is to lie: a directory's files together, in order of names, then its
// directories. It counts the files of each size, and passes on what the walk noted.
func (t *Tree) gather(root *foundDir) (files []sourceFile, sizes map[int64]int32) {
	sizes = map[int64]int32{}
	linked := map[*erofs.Inode]bool{}
	for stack := []*foundDir{root}; len(stack) > 0; {
		dir := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, n := range dir.notes {
			if n.about == "" {
				t.opts.Note(n.message)
				continue
			}
			t.notes.once(n.about, n.message)
		}
		for _, f := range dir.files {
			if f.linked {
				if linked[f.ino] {
					continue
				}
				linked[f.ino] = true
			}
			files = append(files, f)
			sizes[f.ino.Size]++
		}
		for i := len(dir.dirs) - 1; i >= 0; i-- {
			stack = append(stack, dir.dirs[i])
		}
		dir.files, dir.dirs = nil, nil
	}
	return files, sizes
}
