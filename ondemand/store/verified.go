package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/atomicfile"
)

// MetaPath is where the metadata image with that SHA-256 (64 hex digits) is kept.
func (s *Store) MetaPath(digest string) string { return s.path("meta", digest+metaSuffix) }

func (s *Store) mapPath(id string) string { return s.path("maps", id+mapSuffix) }

const (
	metaSuffix = ".erofs"
	mapSuffix  = ".map"
)

// Meta makes sure that the metadata image with that SHA-256 is in the store, whole and unharmed, and returns its length. fetch writes its bytes when it is
// not; they are verified before they get their final name.
func (s *Store) Meta(ctx context.Context, digest string, fetch func(context.Context, io.Writer) error) (size int64, err error) {
	return s.verified(ctx, s.MetaPath(digest), digest, fetch)
}

// Map maps the blob map with that ID into memory, read-only, so that it costs page cache and no heap. fetch writes it when it is not in the store. The caller
// unmaps it with [Unmap].
func (s *Store) Map(ctx context.Context, id string, fetch func(context.Context, io.Writer) error) ([]byte, error) {
	path := s.mapPath(id)
	n, err := s.verified(ctx, path, id, fetch)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	b, err := unix.Mmap(int(f.Fd()), 0, int(n), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return b, nil
}

// CheckMeta returns nil if the metadata image with that SHA-256 is in the store, whole and unharmed; else fs.ErrNotExist or [ErrDamaged].
func (s *Store) CheckMeta(digest string) error {
	_, err := hashed(s.MetaPath(digest), digest)
	return err
}

// CheckMap is [Store.CheckMeta] for a blob's map.
func (s *Store) CheckMap(id string) error {
	_, err := hashed(s.mapPath(id), id)
	return err
}

// RemoveMap removes a blob's map. Whoever has it mapped keeps it.
func (s *Store) RemoveMap(id string) error {
	if err := os.Remove(s.mapPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the map of blob %s: %w", id, err)
	}
	return nil
}

// Unmap gives back what [Store.Map] returned. Nothing may use it any more.
func Unmap(b []byte) error { return unix.Munmap(b) }

// verified makes sure that path holds bytes with that SHA-256. A file that has gone bad is replaced.
func (s *Store) verified(ctx context.Context, path, digest string, fetch func(context.Context, io.Writer) error) (int64, error) {
	if raw, err := hex.DecodeString(digest); err != nil || len(raw) != sha256.Size {
		return 0, fmt.Errorf("store %s: %q is no SHA-256 in hex", s.root, digest)
	}
	n, err := hashed(path, digest)
	if err == nil || !errors.Is(err, ErrDamaged) && !errors.Is(err, fs.ErrNotExist) {
		return n, err
	}
	h := sha256.New()
	f, err := atomicfile.Create(path, 0o600)
	if err != nil {
		return 0, fmt.Errorf("store: %w", err)
	}
	defer f.Discard()
	if err := fetch(ctx, io.MultiWriter(f, h)); err != nil {
		return 0, err
	}
	if !matches(h, digest) {
		return 0, fmt.Errorf("store %s: got bytes with SHA-256 %x", path, h.Sum(nil))
	}
	if n, err = f.Seek(0, io.SeekEnd); err != nil {
		return 0, err
	}
	if err := commit(f, path); err != nil {
		return 0, fmt.Errorf("store: %w", err)
	}
	return n, nil
}

// ErrDamaged says that a file cannot be read, or has other bytes than it should.
var ErrDamaged = errors.New("damaged")

// hashed returns the length of the file at path if that is the SHA-256 of its bytes.
func hashed(path, digest string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close() // only read
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if !matches(h, digest) {
		return 0, fmt.Errorf("%w: %s has SHA-256 %x", ErrDamaged, path, h.Sum(nil))
	}
	return n, nil
}

func matches(h hash.Hash, digest string) bool { return hex.EncodeToString(h.Sum(nil)) == digest }
