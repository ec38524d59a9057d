package mkfs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// output is a file that gets its name only when it is complete.
type output struct {
	f    *os.File
	path string
	done bool
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
	// os.CreateTemp would make a file for its owner only, whatever the umask says.
	name := fmt.Sprintf(".%s.tmp%08x", shorten(filepath.Base(path)), rand.Uint32())
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return &output{f: f, path: path}, nil
}

// is reports whether both files are to have the same name.
func (o *output) is(p *output) bool {
	a, err := os.Stat(filepath.Dir(o.path))
	b, err2 := os.Stat(filepath.Dir(p.path))
	return err == nil && err2 == nil && os.SameFile(a, b) && filepath.Base(o.path) == filepath.Base(p.path)
}

// shorten leaves room in a name for what is added to it.
func shorten(name string) string {
	const room = 200
	if len(name) > room {
		return name[:room]
	}
	return name
}

// infos describes the file and what has its name now, for a source that may contain them.
func (o *output) infos() []os.FileInfo {
	var all []os.FileInfo
	if info, err := o.f.Stat(); err == nil {
		all = append(all, info)
	}
	if info, err := os.Lstat(o.path); err == nil {
		all = append(all, info)
	}
	return all
}

// commit puts the file in its place.
func (o *output) commit() error {
	o.done = true
	err := o.f.Close()
	if err == nil {
		err = os.Rename(o.f.Name(), o.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", o.path, err), os.Remove(o.f.Name()))
	}
	return nil
}

// discard removes the file unless it was committed. There is nobody left to tell if that fails.
func (o *output) discard() {
	if o.done {
		return
	}
	o.done = true
	_ = o.f.Close()
	_ = os.Remove(o.f.Name())
}
