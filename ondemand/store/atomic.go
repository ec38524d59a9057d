package store

import (
	"fmt"
	"os"
	"path/filepath"
)

const tempSuffix = ".tmp"

// temp is a file on its way to its final name.
type temp struct {
	*os.File
	path string
}

func create(path string) (*temp, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*"+tempSuffix)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	return &temp{File: f, path: path}, nil
}

// commit makes the file durable and gives it its final name, durably too.
func (t *temp) commit() error {
	if err := t.Sync(); err != nil {
		return fmt.Errorf("store %s: %w", t.path, err)
	}
	if err := os.Rename(t.Name(), t.path); err != nil {
		return fmt.Errorf("store %s: %w", t.path, err)
	}
	return syncDir(filepath.Dir(t.path))
}

// discard closes the file and, unless commit has succeeded, removes it.
func (t *temp) discard() {
	t.Close()
	os.Remove(t.Name())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
