// Package setup works out what containerd's configuration lacks to use the snapshotter, and what pageind's lacks to serve it.
//
// It knows the schemas of containerd's configuration and what its plugins do when they are configured, and runs "containerd config dump" to see what containerd makes of a file. The one
// idea to hold in mind: a change is only proposed after containerd itself has read it, and found in it what is wanted and otherwise just what it found before.
package setup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pagein/pagein/internal/atomicfile"
	"github.com/pagein/pagein/internal/tomledit"
)

// Needs is what containerd is to know.
type Needs struct {
	Name    string // of the snapshotter
	Address string // path of the socket where it is served
	Root    string // its directory
	CRI     bool   // Kubernetes' containers use it, unless a runtime class says otherwise
}

// Change is a file that is to have other contents.
type Change struct {
	Path     string
	Old, New []byte // nil if there is no file
}

// None reports whether the file is as it should be.
func (c *Change) None() bool { return (c.Old == nil) == (c.New == nil) && bytes.Equal(c.Old, c.New) }

// Apply writes the new contents, if the file has the old ones. It keeps its mode and owner; if it is a symbolic link, what that names is changed.
func (c *Change) Apply() error { return c.write(c.Old, c.New) }

// Revert writes the old contents again.
func (c *Change) Revert() error { return c.write(c.New, c.Old) }

func (c *Change) write(was, is []byte) error {
	path, err := filepath.EvalSymlinks(c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		path, err = c.Path, nil
	}
	if err != nil {
		return err
	}
	now, err := read(path)
	switch {
	case err != nil:
		return err
	case (now == nil) != (was == nil) || !bytes.Equal(now, was):
		return fmt.Errorf("change %s: somebody else has changed it meanwhile", path)
	case is == nil:
		return os.Remove(path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { // #nosec G301 -- as programs' directories in /etc are
		return err
	}
	return replace(path, is)
}

// replace writes a file anew, durably and at once.
func replace(path string, text []byte) error {
	f, err := atomicfile.Create(path, 0o644)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := keepOwner(path, f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Commit(); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// read returns a file's contents, nil if there is none.
func read(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if text == nil && err == nil {
		text = []byte{}
	}
	return text, err
}

// edited is a file with an edit. One that would be new gets it as a whole.
func edited(path string, e tomledit.Edit) (*Change, error) {
	old, err := read(path)
	if err != nil {
		return nil, err
	}
	c := &Change{Path: path, Old: old}
	if c.New, err = tomledit.Apply(old, e); err != nil {
		return nil, fmt.Errorf("change %s: %w", path, err)
	}
	return c, nil
}

// Undo is the change that takes out of a file what was put in. A file with nothing else goes.
func Undo(path string) (*Change, error) {
	old, err := read(path)
	if err != nil {
		return nil, err
	}
	c := &Change{Path: path, Old: old}
	if c.New, err = tomledit.Undo(old); err != nil {
		return nil, fmt.Errorf("change %s: %w", path, err)
	}
	if len(c.New) == 0 {
		c.New = nil
	}
	return c, nil
}

// socketPath is the path in the address of a Unix socket.
func socketPath(address string) string { return strings.TrimPrefix(address, "unix://") }
