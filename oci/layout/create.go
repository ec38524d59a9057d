package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/atomicfile"
)

// Create opens the layout in dir for writing, or makes one there. One that was interrupted while it was made is completed, and what killed
// writers left behind is removed. A directory that holds something else is refused.
func Create(dir string) (*Store, error) {
	s, err := Prepare(dir)
	if err != nil {
		return nil, err
	}
	if err := s.make(); err != nil {
		return nil, fmt.Errorf("create image layout %s: %w", dir, err)
	}
	return s, nil
}

// Prepare is [Create], but a layout that is not there yet is made no sooner than something is stored. Until then the directory does not
// change, and nothing is found in it.
func Prepare(dir string) (*Store, error) {
	s := &Store{dir: dir, new: &newLayout{}}
	isThere, err := s.prepare()
	if err == nil && isThere {
		if err = s.make(); err == nil {
			err = s.check()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create image layout %s: %w", dir, err)
	}
	return s, nil
}

// attempts bounds how often a layout is made that others remove at the same time.
const attempts = 10

// newLayout is what a store that was opened for writing knows of its directory. Its methods do nothing on nil.
type newLayout struct {
	there  atomic.Bool // the layout is complete
	mu     sync.Mutex
	made   bool     // by us, and nothing was tagged
	top    string   // the topmost directory that was missing, or ""
	inUse  *os.File // holds a shared lock on the directory of blobs
	pushed []digest.Digest
}

// pending reports whether the layout is still to be made.
func (n *newLayout) pending() bool { return n != nil && !n.there.Load() }

// stored remembers a blob that is ours if the layout is.
func (n *newLayout) stored(d digest.Digest) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.made {
		n.pushed = append(n.pushed, d)
	}
}

// keep says that the layout has served its purpose.
func (n *newLayout) keep() {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.made, n.pushed = false, nil
}

// prepare finds out whether there is a layout, or could be one.
func (s *Store) prepare() (isThere bool, err error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, s.prepareIn(filepath.Dir(filepath.Clean(s.dir)))
	}
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == ocispec.ImageLayoutFile }) {
		return true, nil
	}
	if err := s.checkEmpty(entries); err != nil {
		return false, err
	}
	return false, unix.Access(s.dir, unix.W_OK)
}

// prepareIn finds the directory in which others have to be made.
func (s *Store) prepareIn(parent string) error {
	for {
		fi, err := os.Stat(parent)
		if errors.Is(err, fs.ErrNotExist) && parent != filepath.Dir(parent) {
			parent = filepath.Dir(parent)
			continue
		}
		if err == nil && !fi.IsDir() {
			err = unix.ENOTDIR
		}
		if err == nil {
			err = unix.Access(parent, unix.W_OK)
		}
		if err != nil {
			return fmt.Errorf("make it in %s: %w", parent, err)
		}
		return nil
	}
}

// checkEmpty refuses a directory in which somebody else keeps something. An empty index is what is left of a layout whose maker was killed.
func (s *Store) checkEmpty(entries []fs.DirEntry) error {
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), atomicfile.Prefix) {
			continue
		}
		if e.Name() == ocispec.ImageIndexFile {
			if index, err := s.index(); err == nil && len(index.Manifests) == 0 {
				continue
			}
		}
		return errors.New("the directory is neither an image layout nor empty")
	}
	return nil
}

// make makes the layout unless it is there. Only stores for writing do so.
func (s *Store) make() error {
	n := s.new
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for range attempts {
		if n.there.Load() {
			return nil
		}
		if err := s.tryMake(n); err != nil {
			return err
		}
	}
	return fmt.Errorf("somebody removes it again and again, %d times", attempts)
}

// tryMake makes the layout, if nobody removes the directory meanwhile.
func (s *Store) tryMake(n *newLayout) error {
	top, err := makeDir(s.dir)
	if n.top == "" {
		n.top = top
	}
	if err != nil {
		return err
	}
	unlock, err := s.lock()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	isThere, err := s.has(ocispec.ImageLayoutFile)
	if err != nil {
		return err
	}
	if err := s.fill(isThere); err != nil {
		return err
	}
	for _, dir := range []string{s.dir, filepath.Join(s.dir, ocispec.ImageBlobsDir, digest.SHA256.String())} {
		if err := atomicfile.Sweep(dir); err != nil {
			return err
		}
	}
	if n.inUse, err = os.Open(filepath.Join(s.dir, ocispec.ImageBlobsDir)); err != nil {
		return err
	}
	if err := unix.Flock(int(n.inUse.Fd()), unix.LOCK_SH); err != nil {
		return fmt.Errorf("lock %s: %w", n.inUse.Name(), err)
	}
	n.made = !isThere
	n.there.Store(true)
	return nil
}

// fill writes what a layout must have. The file that says that it is a layout comes last.
func (s *Store) fill(isThere bool) error {
	if !isThere {
		entries, err := os.ReadDir(s.dir)
		if err == nil {
			err = s.checkEmpty(entries)
		}
		if err != nil {
			return err
		}
	}
	if indexed, err := s.has(ocispec.ImageIndexFile); err != nil {
		return err
	} else if !indexed {
		index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
		if err := writeJSON(s.dir, ocispec.ImageIndexFile, index); err != nil {
			return err
		}
	}
	if !isThere {
		if err := writeJSON(s.dir, ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(s.dir, ocispec.ImageBlobsDir), 0o755)
}

func (s *Store) has(name string) (bool, error) {
	_, err := os.Lstat(filepath.Join(s.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// makeDir makes a directory and those above it, and returns the topmost that was missing.
func makeDir(dir string) (top string, err error) {
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		if _, err := os.Lstat(at); !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			break
		}
		top = at
	}
	return top, os.MkdirAll(dir, 0o755)
}
