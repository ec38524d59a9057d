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
//	recordings/             what was read of images at first, as JSON
//
// It knows files and durability and nothing of fetching or kernels' protocols. The one idea to hold in mind: a file with its final name is whole.
// Everything but blob files is written without a name, synced and then named; of blob files the presence record tells what counts.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
)

// Store is an open store directory. Its methods may be called concurrently.
type Store struct {
	root string // absolute
	lock *os.File

	mu   sync.Mutex
	open map[string]*Blob // by blob ID

	onFailure atomic.Pointer[func(blob string, err error)]
	hurried   chan struct{}      // a blob has much to make durable
	stop      context.CancelFunc // ends the checkpoints in the background
	running   sync.WaitGroup
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
	s := &Store{root: root, open: make(map[string]*Blob), hurried: make(chan struct{}, 1)}
	if err := s.own(); err != nil {
		return nil, fmt.Errorf("open store %s: %w", root, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.running.Go(func() { s.checkpoints(ctx) })
	return s, nil
}

// mountedBelow is how many bytes the names of files that the kernel mounts add to the root's path, at most.
func mountedBelow() int {
	var s Store // its root is empty
	id := strings.Repeat("0", hex.EncodedLen(sha256.Size))
	return 1 + max(len(s.MetaPath(id)), len(s.BlobPath(id)))
}

// own locks the directory and makes it one of this layout.
func (s *Store) own() error {
	if err := os.MkdirAll(s.root, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	err = takeLock(lock)
	if err == nil {
		err = s.layOut()
	}
	if err == nil {
		err = s.sweep()
	}
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	s.lock = lock
	return nil
}

// Close gives the directory up for the next owner. Blobs must be closed before.
func (s *Store) Close() error {
	s.stop()
	s.running.Wait()
	return s.lock.Close()
}

// Root is the store's directory, an absolute path.
func (s *Store) Root() string { return s.root }

// CachefilesDir is the directory for the kernel's own cache.
func (s *Store) CachefilesDir() string { return s.path("cachefiles") }

// BlobDir is the directory that holds the blob files.
func (s *Store) BlobDir() string { return s.path("blobs") }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}
