package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
)

// tempPrefix begins the names of files that are being written.
const tempPrefix = ".pagein-"

// staleAfter is the age from which on a file that is being written belongs to nobody any more.
const staleAfter = 24 * time.Hour

// Create opens the layout in dir for writing, or makes one there. One that was interrupted while it was made is completed, and what
// interrupted writers left behind long ago is removed. A directory that holds something else is refused.
func Create(dir string) (*Store, error) {
	s := &Store{dir: dir}
	if err := s.create(); err != nil {
		return nil, fmt.Errorf("create image layout %s: %w", dir, err)
	}
	return Open(dir)
}

func (s *Store) create() error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	ours, err := s.has(ocispec.ImageLayoutFile)
	if err != nil {
		return err
	}
	if !ours {
		if err := s.checkEmpty(); err != nil {
			return err
		}
		// It comes first: from then on the directory can be told from others.
		if err := writeJSON(s.dir, ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}); err != nil {
			return err
		}
	}
	if err := s.sweep(time.Now().Add(-staleAfter)); err != nil {
		return err
	}
	if indexed, err := s.has(ocispec.ImageIndexFile); err != nil || indexed {
		return err
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	return writeJSON(s.dir, ocispec.ImageIndexFile, index)
}

func (s *Store) has(name string) (bool, error) {
	_, err := os.Lstat(filepath.Join(s.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// checkEmpty refuses a directory in which somebody else keeps something.
func (s *Store) checkEmpty() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			return errors.New("the directory is neither an image layout nor empty")
		}
	}
	return nil
}

// sweep removes files of writers that stopped before a point in time.
func (s *Store) sweep(before time.Time) error {
	var stale []string
	for _, dir := range []string{"", ocispec.ImageBlobsDir + "/*/"} {
		names, err := fs.Glob(os.DirFS(s.dir), dir+tempPrefix+"*")
		if err != nil {
			return err
		}
		stale = append(stale, names...)
	}
	for _, name := range stale {
		file := filepath.Join(s.dir, filepath.FromSlash(name))
		info, err := os.Lstat(file)
		if err == nil && info.Mode().IsRegular() && info.ModTime().Before(before) {
			err = os.Remove(file)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // its writer may have finished
			return fmt.Errorf("remove what an interrupted writer left: %w", err)
		}
	}
	return nil
}

// Push stores a blob. Bytes that do not have the descriptor's size and digest are refused, and nothing is stored. If the blob is there
// already, the error is oras' ErrAlreadyExists and r is not read.
func (s *Store) Push(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	if ok, err := s.Exists(ctx, desc); err != nil {
		return err
	} else if ok {
		return fmt.Errorf("store blob %s in image layout %s: %w", desc.Digest, s.dir, errdef.ErrAlreadyExists)
	}
	name := filepath.Join(s.dir, filepath.FromSlash(blobPath(desc.Digest)))
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = writeFile(name, func(f *os.File) error {
			v := content.NewVerifyReader(&contextReader{ctx: ctx, r: r}, desc)
			if _, err := io.Copy(f, v); err != nil {
				return err
			}
			return v.Verify()
		})
	}
	if err != nil {
		return fmt.Errorf("store blob %s in image layout %s: %w", desc.Digest, s.dir, err)
	}
	return nil
}

// Tag makes the tag name the manifest desc, which must be stored, in place of what it named before.
func (s *Store) Tag(ctx context.Context, desc ocispec.Descriptor, tag string) error {
	if err := s.tag(ctx, desc, tag); err != nil {
		return fmt.Errorf("tag %s as %q in image layout %s: %w", desc.Digest, tag, s.dir, err)
	}
	return nil
}

func (s *Store) tag(ctx context.Context, desc ocispec.Descriptor, tag string) error {
	if ok, err := s.Exists(ctx, desc); err != nil {
		return err
	} else if !ok {
		return errdef.ErrNotFound
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	index, err := s.index()
	if err != nil {
		return err
	}
	entry := ocispec.Descriptor{
		MediaType: desc.MediaType, ArtifactType: desc.ArtifactType, Digest: desc.Digest, Size: desc.Size, Platform: desc.Platform,
		Annotations: map[string]string{ocispec.AnnotationRefName: tag},
	}
	kept := index.Manifests[:0]
	for _, d := range index.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] != tag {
			kept = append(kept, d)
		}
	}
	index.Manifests = append(kept, entry)
	return writeJSON(s.dir, ocispec.ImageIndexFile, index)
}

// lock keeps other processes from changing the index. The kernel drops it if this process dies.
func (s *Store) lock() (unlock func(), err error) {
	f, err := os.Open(s.dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock: %w", err)
	}
	return func() { _ = f.Close() }, nil
}

func writeJSON(dir, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return writeFile(filepath.Join(dir, name), func(f *os.File) error {
		_, err := f.Write(b)
		return err
	})
}

// writeFile lets write fill a new file that takes the place of name when it is complete and on disk.
func writeFile(name string, write func(f *os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), tempPrefix+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() // only read
	return d.Sync()
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
