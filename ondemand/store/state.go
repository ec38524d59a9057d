package store

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pagein/pagein/internal/atomicfile"
)

// SaveState records v as JSON under a name. When it returns nil the record survives a power cut; until then the earlier one does.
func (s *Store) SaveState(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = replace(s.statePath(name), b)
	}
	if err != nil {
		return fmt.Errorf("save state %s: %w", name, err)
	}
	return nil
}

// LoadState reads what SaveState recorded. The error is fs.ErrNotExist when there is nothing.
func (s *Store) LoadState(name string, v any) error {
	b, err := os.ReadFile(s.statePath(name))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("load state %s: %w", name, err)
	}
	return nil
}

func (s *Store) statePath(name string) string { return s.path("state", name+".json") }

// replace gives a file new content, durably and as a whole.
func replace(path string, content []byte) error {
	f, err := atomicfile.Create(path, 0o600)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(content); err != nil {
		return err
	}
	return commit(f, path)
}

// commit makes the file durable and gives it its name, durably too.
func commit(f *atomicfile.File, path string) error {
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	if err := f.Commit(); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("sync directory %s: %w", filepath.Dir(path), err)
	}
	return nil
}
