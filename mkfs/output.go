package mkfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pagein/pagein/internal/atomicfile"
)

// output is a file that gets its name only when it is complete.
type output struct {
	*atomicfile.File
	path string
}

// create starts a file that is to have the given path. A symbolic link there is followed, and anything but a regular file refused.
func create(path string) (*output, error) {
	switch real, err := filepath.EvalSymlinks(path); {
	case err == nil:
		path = real
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("write %s: it is there and no regular file", path)
	}
	// Where files cannot be without a name, one that was killed has left its file. It does no harm if it cannot be removed.
	_ = atomicfile.Sweep(filepath.Dir(path))
	f, err := atomicfile.Create(path, 0o666)
	if err != nil {
		return nil, err
	}
	return &output{f, path}, nil
}

// is reports whether both files are to have the same name.
func (o *output) is(p *output) bool {
	a, err := os.Stat(filepath.Dir(o.path))
	b, err2 := os.Stat(filepath.Dir(p.path))
	return err == nil && err2 == nil && os.SameFile(a, b) && filepath.Base(o.path) == filepath.Base(p.path)
}

// infos describes the file and what has its name now, for a source that may contain them.
func (o *output) infos() []os.FileInfo {
	var all []os.FileInfo
	if info, err := o.Stat(); err == nil {
		all = append(all, info)
	}
	if info, err := os.Lstat(o.path); err == nil {
		all = append(all, info)
	}
	return all
}
