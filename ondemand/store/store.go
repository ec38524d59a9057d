// Package store is the node's directory: metadata images, blob maps, blob files and what of them is present.
//
//	lock                    held by the one daemon that owns the directory
//	version                 the layout's version
//	meta/<sha256>.erofs     complete metadata images
//	maps/<blob ID>.map      blob maps
//	blobs/<blob ID>         sparse blob files (fanotify and file transports)
//	blobs/<blob ID>.present which frames of the blob file are there
//	cachefiles/             the kernel's own cache (cachefiles transport)
//	state/                  small records of the daemon, as JSON
//
// It knows files and durability and nothing of fetching or kernels' protocols. The one idea to hold in mind: a file with its final name is whole.
// Everything but blob files is written under a temporary name, synced and renamed; of blob files the presence record tells what counts.
package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const layoutVersion = "pagein store 1\n"

// ErrOwned is returned by [Open] for a directory that another process owns.
var ErrOwned = errors.New("store is in use")

// Store is an open store directory. Its methods may be called concurrently.
type Store struct {
	root string
	lock *os.File
}

// maxSource is the longest string in bytes that fsconfig(2) takes (strndup_user in fs/fsopen.c, 256 with the NUL), and so the longest path of what is mounted.
const maxSource = 255

// Open takes possession of the store at root, which it makes if need be. A directory has one owner at a time. The absolute path of root may have at most 179
// bytes, for mounts name files in it.
func Open(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if most := maxSource - mountedBelow(); len(root) > most {
		return nil, fmt.Errorf("open store %s: its path has %d bytes; the kernel mounts files below paths of at most %d: choose a shorter one", root, len(root), most)
	}
	for _, d := range []string{"", "meta", "maps", "blobs", "cachefiles", "state"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o700); err != nil {
			return nil, fmt.Errorf("open store %s: %w", root, err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(root, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", root, err)
	}
	s := &Store{root: root, lock: lock}
	if err := s.own(); err != nil {
		lock.Close()
		return nil, fmt.Errorf("open store %s: %w", root, err)
	}
	return s, nil
}

// mountedBelow is how many bytes the names of files that the kernel mounts add to the root's path, at most.
func mountedBelow() int {
	var s Store // its root is empty
	id := strings.Repeat("0", hex.EncodedLen(sha256.Size))
	return 1 + max(len(s.MetaPath(id)), len(s.BlobPath(id)))
}

// lockPatience is how long Open waits for another owner to go: a killed process keeps its locks until it is gone for good.
const lockPatience = time.Second

func (s *Store) own() error {
	err := s.flock()
	for end := time.Now().Add(lockPatience); errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(end); err = s.flock() {
		time.Sleep(10 * time.Millisecond)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		owner, _ := io.ReadAll(io.LimitReader(s.lock, 32))
		return fmt.Errorf("%w by another pageind (pid %s): stop it, or choose another directory with --root", ErrOwned, bytes.TrimSpace(owner))
	}
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	if err := s.lock.Truncate(0); err != nil {
		return err
	}
	if _, err := s.lock.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
		return err
	}
	version, err := os.ReadFile(s.path("version"))
	if errors.Is(err, fs.ErrNotExist) {
		return s.write(s.path("version"), strings.NewReader(layoutVersion))
	}
	if err != nil {
		return err
	}
	if string(version) != layoutVersion {
		return fmt.Errorf("its layout is %q, this version of pagein knows %q: use the version that made it, or an empty directory",
			bytes.TrimSpace(version), strings.TrimSpace(layoutVersion))
	}
	return s.sweep()
}

func (s *Store) flock() error { return unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// probes are the files with which transports find out, in BlobDir, what the kernel can do.
const probes = ".probe-*"

// sweep removes what an interrupted write or probe left behind.
func (s *Store) sweep() error {
	for _, pattern := range []string{"meta/*" + tempSuffix, "maps/*" + tempSuffix, "blobs/*" + tempSuffix, "state/*" + tempSuffix, "blobs/" + probes} {
		left, err := filepath.Glob(s.path(pattern))
		if err != nil {
			return err
		}
		for _, f := range left {
			if err := os.Remove(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close gives the directory up for the next owner.
func (s *Store) Close() error { return s.lock.Close() }

// Root is the store's directory, an absolute path.
func (s *Store) Root() string { return s.root }

// CachefilesDir is the directory for the kernel's own cache.
func (s *Store) CachefilesDir() string { return s.path("cachefiles") }

// BlobDir is the directory that holds the blob files.
func (s *Store) BlobDir() string { return s.path("blobs") }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}

// MetaPath is where the metadata image with that SHA-256 (64 hex digits) is kept.
func (s *Store) MetaPath(digest string) string { return s.path("meta", digest+".erofs") }

// Meta makes sure that the metadata image with that SHA-256 is in the store, whole and unharmed, and returns its length. fetch writes its bytes when it is
// not; they are verified before they get their final name.
func (s *Store) Meta(ctx context.Context, digest string, fetch func(context.Context, io.Writer) error) (size int64, err error) {
	return s.verified(ctx, s.MetaPath(digest), digest, fetch)
}

// Map maps the blob map with that ID into memory, read-only, so that it costs page cache and no heap. fetch writes it when it is not in the store. The caller
// unmaps it with [Unmap].
func (s *Store) Map(ctx context.Context, id string, fetch func(context.Context, io.Writer) error) ([]byte, error) {
	path := s.path("maps", id+".map")
	n, err := s.verified(ctx, path, id, fetch)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, int(n), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return b, nil
}

// Unmap gives back what [Store.Map] returned. Nothing may use it any more.
func Unmap(b []byte) error { return unix.Munmap(b) }

// verified makes sure that path holds bytes with that SHA-256. A file that has gone bad is replaced.
func (s *Store) verified(ctx context.Context, path, digest string, fetch func(context.Context, io.Writer) error) (int64, error) {
	if raw, err := hex.DecodeString(digest); err != nil || len(raw) != sha256.Size {
		return 0, fmt.Errorf("store %s: %q is no SHA-256 in hex", s.root, digest)
	}
	if f, err := os.Open(path); err == nil {
		h := sha256.New()
		n, err := io.Copy(h, f)
		f.Close()
		if err == nil && matches(h, digest) {
			return n, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	h := sha256.New()
	t, err := create(path)
	if err != nil {
		return 0, err
	}
	defer t.discard()
	if err := fetch(ctx, io.MultiWriter(t, h)); err != nil {
		return 0, err
	}
	if !matches(h, digest) {
		return 0, fmt.Errorf("store %s: got bytes with SHA-256 %x", path, h.Sum(nil))
	}
	n, err := t.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	return n, t.commit()
}

func matches(h hash.Hash, digest string) bool { return hex.EncodeToString(h.Sum(nil)) == digest }

// SaveState records v as JSON under a name. When it returns nil the record survives a power cut.
func (s *Store) SaveState(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("save state %s: %w", name, err)
	}
	return s.write(s.path("state", name+".json"), bytes.NewReader(b))
}

// LoadState reads what SaveState recorded. The error is fs.ErrNotExist when there is nothing.
func (s *Store) LoadState(name string, v any) error {
	b, err := os.ReadFile(s.path("state", name+".json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("load state %s: %w", name, err)
	}
	return nil
}

func (s *Store) write(path string, r io.Reader) error {
	t, err := create(path)
	if err != nil {
		return err
	}
	defer t.discard()
	if _, err := io.Copy(t, r); err != nil {
		return err
	}
	return t.commit()
}
