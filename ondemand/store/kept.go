package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// ErrOpen is returned for the removal of a blob that is open.
var ErrOpen = errors.New("it is open")

// keptSet collects files by ID.
type keptSet map[string]*Kept

// add counts a file for an ID. Files that have no ID for a name are not ours to remove.
func (k keptSet) add(id string, e fs.DirEntry) error {
	if !isID(id) {
		return nil
	}
	n, changed, err := allocated(e)
	if err != nil {
		return err
	}
	have := k[id]
	if have == nil {
		have = &Kept{ID: id}
		k[id] = have
	}
	have.Allocated += n
	if changed.After(have.Used) {
		have.Used = changed
	}
	return nil
}

func (k keptSet) sorted() []Kept {
	list := make([]Kept, 0, len(k))
	for _, one := range k {
		list = append(list, *one)
	}
	slices.SortFunc(list, func(a, b Kept) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

func isID(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == sha256.Size
}

// RemoveBlob removes all that the store has of a blob, and its map. The error is [ErrOpen] if the blob is open. Whoever has its map mapped keeps that.
func (s *Store) RemoveBlob(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[id] != nil {
		return fmt.Errorf("remove blob %s: %w", id, ErrOpen)
	}
	// The record first: without it a blob file counts for nothing, whatever is left after a crash.
	for _, path := range []string{s.recordPath(id), s.BlobPath(id), s.mapPath(id)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove blob %s: %w", id, err)
		}
	}
	return nil
}

// RemoveMeta removes a metadata image. A mount of it keeps the file until it is gone, but no other mount can be made.
func (s *Store) RemoveMeta(digest string) error {
	if err := os.Remove(s.MetaPath(digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove meta %s: %w", digest, err)
	}
	return nil
}
