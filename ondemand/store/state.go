package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pagein/pagein/internal/atomicfile"
)

// A state file is a JSON value, a newline, and "sha256:" with the SHA-256 of all before it in hex, and a newline.
const stateSum = "sha256:"

const copySuffix = ".copy"

// SaveState records v as JSON under a name. When it returns nil the record survives a power cut; until then the earlier one does.
func (s *Store) SaveState(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("save state %s: %w", name, err)
	}
	b = append(b, '\n')
	b = fmt.Appendf(b, "%s%x\n", stateSum, sha256.Sum256(b))
	if err := replace(s.statePath(name), b, true); err != nil {
		return fmt.Errorf("save state %s: %w", name, err)
	}
	// The copy is for files that go bad later, so no sync has to be waited for. It is no worse than the one before if it cannot be written.
	if err := replace(s.stateCopy(name), b, false); err != nil {
		if err := os.Remove(s.stateCopy(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the earlier copy of state %s: %w", name, err)
		}
	}
	return nil
}

// LoadState reads what SaveState recorded, from a copy if the record is damaged or lost. The error is fs.ErrNotExist when there is nothing, and [ErrDamaged] when both are damaged.
func (s *Store) LoadState(name string, v any) error {
	err := loadState(s.statePath(name), v)
	if err != nil && loadState(s.stateCopy(name), v) == nil {
		return nil
	}
	return err
}

// CheckState returns nil if all records are sound, else [ErrDamaged] and what is wrong. Copies may be anything, as they need no sync.
func (s *Store) CheckState() error {
	records, err := filepath.Glob(s.path("state", "*.json"))
	copies, copiesErr := filepath.Glob(s.path("state", "*.json"+copySuffix))
	err = errors.Join(err, copiesErr)
	for _, f := range records {
		var v any
		err = errors.Join(err, loadState(f, &v))
	}
	for _, f := range copies {
		if record := strings.TrimSuffix(f, copySuffix); !slices.Contains(records, record) {
			err = errors.Join(err, fmt.Errorf("%w: %s: there is nothing but its copy", ErrDamaged, record))
		}
	}
	return err
}

func loadState(path string, v any) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	text, sum, summed := bytes.Cut(b, []byte("\n"+stateSum))
	if summed { // layout 1 had no sums
		text = b[:len(text)+1]
		if want := fmt.Sprintf("%x\n", sha256.Sum256(text)); string(sum) != want {
			return fmt.Errorf("%w: %s: its checksum is wrong", ErrDamaged, path)
		}
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	return nil
}

func (s *Store) statePath(name string) string { return s.path("state", name+".json") }
func (s *Store) stateCopy(name string) string { return s.statePath(name) + copySuffix }

// replace gives a file new content as a whole, durably if that is wanted.
func replace(path string, content []byte, durably bool) error {
	f, err := atomicfile.Create(path, 0o600)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if !durably {
		return f.Commit()
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
