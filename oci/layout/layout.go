// Package layout reads and writes OCI image layouts on disk (image-spec, image-layout.md).
//
// Opening and reading changes nothing in the directory. Writing never leaves a reader with half of anything, whenever the writer is killed: blobs and
// index.json get their names when they are complete and on disk, and a lock serialises changes of the index. Files are opened within the directory, so
// that neither a link nor a crafted index leads out of it.
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
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	"oras.land/oras-go/v2/errdef"
)

// maxIndex bounds index.json, and manifests that are looked up by digest, in bytes.
const maxIndex = 4 << 20

// Store is an image layout. It is an oras target: its methods may be called concurrently, also by several processes.
type Store struct {
	dir string
	new *newLayout // nil unless it was opened by Create or Prepare
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
		if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the directory does not exist (%w)", unix.ENOENT)
		}
		return fmt.Errorf("it has no file %q (%w); is it an image layout?", ocispec.ImageLayoutFile, unix.ENOENT)
	}
	if err != nil {
		return err
	}
	var l ocispec.ImageLayout
	if err := json.Unmarshal(b, &l); err != nil {
		return fmt.Errorf("%s is damaged: parse it: %w", ocispec.ImageLayoutFile, err)
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
	if errors.Is(err, fs.ErrNotExist) && s.new.pending() {
		return &ocispec.Index{}, nil
	}
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("%s is damaged: parse it: %w", ocispec.ImageIndexFile, err)
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

// openFile opens a regular file of the layout. Anything else that has its name is refused without waiting for it, as a pipe would have one
// wait for a writer.
func (s *Store) openFile(name string) (*os.File, error) {
	root, err := os.OpenRoot(s.dir + "/.") // if it is a pipe, this fails at once
	if err != nil {
		return nil, err
	}
	defer root.Close() // files outlive it
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("open %s: it is no regular file", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// readFile reads a small file of the layout.
func (s *Store) readFile(name string) ([]byte, error) {
	f, err := s.openFile(name)
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

// Resolve finds a manifest by tag or digest.
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
	for _, d := range index.Manifests {
		if reference != "" && (d.Annotations[ocispec.AnnotationRefName] == reference || d.Digest.String() == reference) {
			return d, nil
		}
	}
	if d, err := digest.Parse(reference); err == nil {
		return s.sniff(d)
	}
	return ocispec.Descriptor{}, fmt.Errorf("%w; %s", errdef.ErrNotFound, choices(index))
}

// choices says what there is in an index.
func choices(index *ocispec.Index) string {
	const most = 10
	var tags []string
	for _, d := range index.Manifests {
		if tag := d.Annotations[ocispec.AnnotationRefName]; tag != "" {
			tags = append(tags, strconv.Quote(tag))
		}
	}
	switch {
	case len(index.Manifests) == 0:
		return "nothing is in the index"
	case len(tags) == 0:
		return fmt.Sprintf("the index lists %d, and none has a tag: choose by digest", len(index.Manifests))
	case len(tags) > most:
		tags = append(tags[:most], "and more")
	}
	return "there are the tags " + strings.Join(tags, ", ")
}

// Only returns the manifest of an index that lists a single one. Otherwise the error is oras' ErrNotFound.
func (s *Store) Only() (ocispec.Descriptor, error) {
	index, err := s.index()
	if err == nil && len(index.Manifests) != 1 {
		err = fmt.Errorf("%w; %s: write oci:DIR:TAG, or oci:DIR@DIGEST", errdef.ErrNotFound, choices(index))
	}
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("find the only manifest in image layout %s: %w", s.dir, err)
	}
	return index.Manifests[0], nil
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
	f, err := s.openFile(blobPath(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the layout is incomplete", errdef.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() != desc.Size {
		err = fmt.Errorf("%w: it has %d bytes, its descriptor says %d", errSize, fi.Size(), desc.Size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// errSize says that a blob is not as long as it must be to have its digest.
var errSize = errors.New("wrong size")

// Exists reports whether there is a blob with the descriptor's digest and size. One of another size, as a power failure may leave it in a
// layout that other tools wrote, does not count, so that [Store.Push] replaces it. A store for writing reads the blob, too, and does not count one
// with other bytes: what refers to it would be broken for good.
func (s *Store) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	f, err := s.open(desc)
	if errors.Is(err, errdef.ErrNotFound) || errors.Is(err, errSize) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find blob %s in image layout %s: %w", desc.Digest, s.dir, err)
	}
	defer f.Close() // only read
	if s.new == nil {
		return true, nil
	}
	verifier := desc.Digest.Verifier()
	if _, err := io.CopyBuffer(verifier, &contextReader{ctx: ctx, r: f}, make([]byte, copyBuffer)); err != nil {
		return false, fmt.Errorf("verify blob %s in image layout %s: %w", desc.Digest, s.dir, err)
	}
	return verifier.Verified(), nil
}

func blobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}
