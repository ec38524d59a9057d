package layout

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/internal/atomicfile"
)

// Push stores a blob. Bytes that do not have the descriptor's size and digest are refused, and nothing is stored. If the blob is there
// already, the error is oras' ErrAlreadyExists and r is not read.
func (s *Store) Push(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	return s.push(ctx, desc, func(f *os.File) error {
		v := content.NewVerifyReader(&contextReader{ctx: ctx, r: r}, desc)
		if _, err := io.Copy(f, v); err != nil {
			return err
		}
		return v.Verify()
	})
}

// PushHashed is [Store.Push] for bytes of which the caller has just computed the digest: only their number is checked.
func (s *Store) PushHashed(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	return s.push(ctx, desc, func(f *os.File) error {
		n, err := io.CopyBuffer(struct{ io.Writer }{f}, &contextReader{ctx: ctx, r: io.LimitReader(r, desc.Size+1)}, make([]byte, copyBuffer))
		if err == nil && n != desc.Size {
			err = fmt.Errorf("%w: there are %d bytes, its descriptor says %d", errSize, n, desc.Size)
		}
		return err
	})
}

// copyBuffer is how many bytes are copied at a time.
const copyBuffer = 1 << 20

// push lets write fill a blob that is not there yet.
func (s *Store) push(ctx context.Context, desc ocispec.Descriptor, write func(f *os.File) error) error {
	err := desc.Digest.Validate()
	if err == nil {
		err = s.make()
	}
	if err == nil {
		var ok bool
		if ok, err = s.Exists(ctx, desc); ok {
			err = errdef.ErrAlreadyExists
		}
	}
	if err == nil {
		name := filepath.Join(s.dir, filepath.FromSlash(blobPath(desc.Digest)))
		err = os.MkdirAll(filepath.Dir(name), 0o755)
		if err == nil {
			err = writeFile(name, write)
		}
		if err == nil {
			s.new.stored(desc.Digest)
		}
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
	if err := writeJSON(s.dir, ocispec.ImageIndexFile, index); err != nil {
		return err
	}
	s.new.keep()
	return nil
}

// lock keeps other processes from changing the index. The kernel drops it if this process dies. If the directory was removed meanwhile, the error is
// fs.ErrNotExist.
func (s *Store) lock() (unlock func(), err error) {
	f, err := os.Open(s.dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock: %w", err)
	}
	locked, err := f.Stat()
	if err == nil {
		var now os.FileInfo
		if now, err = os.Stat(s.dir); err == nil && !os.SameFile(locked, now) {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
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
func writeFile(name string, write func(f *os.File) error) error {
	f, err := atomicfile.Create(name, 0o644)
	if err != nil {
		return err
	}
	defer f.Discard()
	if err := write(f.File); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil { // whatever the umask says: layouts are shared
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Commit(); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(name))
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
