package convert_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/layout"
)

// entry is a tar member.
type entry struct {
	name, body, link string
	kind             byte // tar type, default by name: directory or file
	mode             int64
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.body)), Linkname: e.link, Format: tar.FormatPAX}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			if strings.HasSuffix(e.name, "/") {
				h.Typeflag = tar.TypeDir
			}
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// testLayer is a layer as it is stored and as it is described.
type testLayer struct {
	desc   ocispec.Descriptor
	stored []byte
	diffID digest.Digest
}

// gzipLayer is an honest layer.
func gzipLayer(t testing.TB, plain []byte) testLayer {
	b := gzipped(t, plain)
	return testLayer{content.NewDescriptorFromBytes(ocispec.MediaTypeImageLayerGzip, b), b, digest.FromBytes(plain)}
}

func plainLayer(plain []byte) testLayer {
	return testLayer{content.NewDescriptorFromBytes(ocispec.MediaTypeImageLayer, plain), plain, digest.FromBytes(plain)}
}

// pushImage stores an image of layers and returns its manifest.
func pushImage(t testing.TB, dst content.Storage, layers ...testLayer) ocispec.Descriptor {
	t.Helper()
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
		m.Layers = append(m.Layers, l.desc)
		push(t, dst, l.desc, l.stored)
	}
	m.Config = pushJSON(t, dst, ocispec.MediaTypeImageConfig, config)
	return pushJSON(t, dst, m.MediaType, m)
}

func pushJSON(t testing.TB, dst content.Storage, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	desc := content.NewDescriptorFromBytes(mediaType, b)
	push(t, dst, desc, b)
	return desc
}

func push(t testing.TB, dst content.Storage, desc ocispec.Descriptor, b []byte) {
	t.Helper()
	if lying, ok := dst.(*lyingStore); ok {
		lying.blobs[desc.Digest] = b
		return
	}
	if err := dst.Push(context.Background(), desc, bytes.NewReader(b)); err != nil && !errors.Is(err, errdef.ErrAlreadyExists) {
		t.Fatal(err)
	}
}

// lyingStore gives out what it was given, whatever the digest.
type lyingStore struct {
	content.Storage
	blobs map[digest.Digest][]byte
}

func (s *lyingStore) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	b, ok := s.blobs[desc.Digest]
	if !ok {
		return nil, errdef.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func newLayout(t testing.TB) *layout.Store {
	t.Helper()
	l, err := layout.Create(filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// open reads an artifact the way the daemon does, except that blobs are decoded whole.
func open(t testing.TB, src content.Fetcher, desc ocispec.Descriptor) *erofs.FS {
	t.Helper()
	ctx := context.Background()
	a, err := artifact.Load(ctx, src, desc, "test")
	if err != nil {
		t.Fatal(err)
	}
	var meta bytes.Buffer
	if err := a.FetchMeta(ctx, &meta); err != nil {
		t.Fatal(err)
	}
	var devices []io.ReaderAt
	for i := range a.Blobs {
		devices = append(devices, bytes.NewReader(decode(t, src, a, i)))
	}
	fsys, err := erofs.Open(bytes.NewReader(meta.Bytes()), int64(meta.Len()), devices...)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range fsys.Super().Devices {
		if d.Tag != a.Blobs[i].ID {
			t.Errorf("device %d is tagged %q, the blob's ID is %s", i+1, d.Tag, a.Blobs[i].ID)
		}
	}
	return fsys
}

// decode returns the bytes of a blob.
func decode(t testing.TB, src content.Fetcher, a *artifact.Artifact, i int) []byte {
	t.Helper()
	ctx := context.Background()
	m, err := a.FetchMap(ctx, i)
	if err != nil {
		t.Fatal(err)
	}
	r, err := src.Fetch(ctx, a.Blobs[i].Sources[0])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	object, err := content.ReadAll(r, a.Blobs[i].Sources[0])
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 0, m.Size())
	for i := range m.Frames() {
		f := m.Frame(i)
		out = append(out, unpackFrame(t, object[f.SrcOff:f.SrcOff+int64(f.SrcLen)], f)...)
	}
	return out
}

// unpackFrame decodes and verifies one frame.
func unpackFrame(t testing.TB, src []byte, f blob.Frame) []byte {
	t.Helper()
	d, err := blob.NewDecoder(1)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	dst := make([]byte, f.Len)
	if err := d.Decode(dst, src, f); err != nil {
		t.Fatal(err)
	}
	return dst
}

// list describes every file of a tree, one line each, in the order of names.
func list(t testing.TB, fsys fs.FS) []string {
	t.Helper()
	var lines []string
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v", name, fi.Mode())
		switch {
		case fi.Mode().IsRegular():
			b, err := fs.ReadFile(fsys, name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %s %s", fi.Size(), fi.ModTime().UTC(), digest.FromBytes(b))
		case fi.Mode()&fs.ModeSymlink != 0:
			to, err := fs.ReadLink(fsys, name)
			if err != nil {
				return err
			}
			line += " -> " + to
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return lines
}

// sameTree compares two trees.
func sameTree(t testing.TB, got, want fs.FS) {
	t.Helper()
	g, w := list(t, got), list(t, want)
	for i := range max(len(g), len(w)) {
		switch {
		case i >= len(g):
			t.Fatalf("missing: %s", w[i])
		case i >= len(w):
			t.Fatalf("too many: %s", g[i])
		case g[i] != w[i]:
			t.Fatalf("got  %s\nwant %s", g[i], w[i])
		}
	}
}

// sourceTree is a directory with something of everything that matters here.
func sourceTree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range map[string]string{
		"etc/hostname":    "box\n",
		"etc/passwd":      strings.Repeat("root:x:0:0::/:/bin/sh\n", 100),
		"usr/bin/tool":    strings.Repeat("\x7fELF tool ", 20_000),
		"usr/lib/big.so":  strings.Repeat("0123456789abcdef", 200_000),
		"usr/lib/copy.so": strings.Repeat("0123456789abcdef", 200_000),
		"empty":           "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../lib/big.so", filepath.Join(dir, "usr/bin/big")); err != nil {
		t.Fatal(err)
	}
	return dir
}
