// Package layout reads and writes OCI image layouts on disk (image-spec, image-layout.md).
//
// Opening and reading changes nothing in the directory. Writing never leaves a reader with half of anything: blobs and index.json are
// written under other names, flushed and renamed, and a lock serialises writers. Files are opened within the directory, so that neither a
// link nor a crafted index leads out of it.
package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
)

// maxIndex bounds index.json, and manifests that are looked up by digest, in bytes.
const maxIndex = 4 << 20

// Store is an image layout. It is an oras target: its methods may be called concurrently, also by several processes.
type Store struct {
	dir string
}

// Open opens the layout in dir, which must exist. It reads the index to find out whether it is sound.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("open image layout %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) check() error {
	b, err := s.readFile(ocispec.ImageLayoutFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; is it an image layout?", err)
	}
	if err != nil {
		return err
	}
	var l ocispec.ImageLayout
	if err := json.Unmarshal(b, &l); err != nil {
		return fmt.Errorf("parse %s: %w", ocispec.ImageLayoutFile, err)
	}
	if l.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("layout version is %q, only %q is known", l.Version, ocispec.ImageLayoutVersion)
	}
	_, err = s.index()
	return err
}

// Dir is the layout's directory as it was given.
func (s *Store) Dir() string { return s.dir }

// index reads index.json.
func (s *Store) index() (*ocispec.Index, error) {
	b, err := s.readFile(ocispec.ImageIndexFile)
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("parse %s: %w", ocispec.ImageIndexFile, err)
	}
	if index.SchemaVersion != 2 {
		return nil, fmt.Errorf("parse %s: schema version is %d, want 2", ocispec.ImageIndexFile, index.SchemaVersion)
	}
	for i, d := range index.Manifests {
		if err := d.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("parse %s: manifest %d: digest %q: %w", ocispec.ImageIndexFile, i, d.Digest, err)
		}
		if d.Size < 0 {
			return nil, fmt.Errorf("parse %s: manifest %d: size is %d", ocispec.ImageIndexFile, i, d.Size)
		}
	}
	return &index, nil
}

// readFile reads a small file of the layout.
func (s *Store) readFile(name string) ([]byte, error) {
	f, err := os.OpenInRoot(s.dir, name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	b, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxIndex {
		return nil, fmt.Errorf("read %s: it has more than %d bytes", name, maxIndex)
	}
	return b, nil
}

// Resolve finds a manifest by tag or digest. An empty reference means the tag "latest" or, if there is none, the only manifest of the index.
func (s *Store) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	desc, err := s.resolve(reference)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("find %q in image layout %s: %w", reference, s.dir, err)
	}
	return desc, nil
}

func (s *Store) resolve(reference string) (ocispec.Descriptor, error) {
	index, err := s.index()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	tag := reference
	if tag == "" {
		tag = "latest"
	}
	for _, d := range index.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] == tag || d.Digest.String() == reference {
			return d, nil
		}
	}
	if reference == "" && len(index.Manifests) == 1 {
		return index.Manifests[0], nil
	}
	if d, err := digest.Parse(reference); err == nil {
		return s.sniff(d)
	}
	return ocispec.Descriptor{}, fmt.Errorf("%w; the index has %d manifests", errdef.ErrNotFound, len(index.Manifests))
}

// sniff describes a manifest that the index does not list.
func (s *Store) sniff(d digest.Digest) (ocispec.Descriptor, error) {
	b, err := s.readFile(blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return ocispec.Descriptor{}, errdef.ErrNotFound
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var m struct {
		MediaType string `json:"mediaType"`
	}
	if err := json.Unmarshal(b, &m); err != nil || m.MediaType == "" || !bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		return ocispec.Descriptor{}, errors.New("it is no manifest")
	}
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: d, Size: int64(len(b))}, nil
}

// Fetch opens a blob. Its size is checked, its digest is for the reader to check.
func (s *Store) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	f, err := s.open(desc)
	if err != nil {
		return nil, fmt.Errorf("open blob %s in image layout %s: %w", desc.Digest, s.dir, err)
	}
	return f, nil
}

func (s *Store) open(desc ocispec.Descriptor) (*os.File, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, err
	}
	f, err := os.OpenInRoot(s.dir, blobPath(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the layout is incomplete", errdef.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err == nil && fi.Size() != desc.Size {
		err = fmt.Errorf("it has %d bytes, its descriptor says %d", fi.Size(), desc.Size)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Exists reports whether there is a blob with the descriptor's digest and size.
func (s *Store) Exists(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	f, err := s.open(desc)
	if errors.Is(err, errdef.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find blob %s in image layout %s: %w", desc.Digest, s.dir, err)
	}
	return true, f.Close()
}

func blobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}
