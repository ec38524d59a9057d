package difftest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/oci/artifact"
)

// Unpack writes the metadata image of an artifact and all of its blobs as files.
func Unpack(t testing.TB, src content.Fetcher, desc ocispec.Descriptor) Image {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	a, err := artifact.Load(ctx, src, desc, "the artifact")
	if err != nil {
		t.Fatal(err)
	}
	img := Image{Path: filepath.Join(dir, "meta")}
	create(t, img.Path, func(w io.Writer) error { return a.FetchMeta(ctx, w) })
	for i, b := range a.Blobs {
		m, err := a.FetchMap(ctx, i)
		if err != nil {
			t.Fatal(err)
		}
		objects := make([][]byte, len(b.Sources))
		for j, d := range b.Sources {
			if objects[j], err = content.FetchAll(ctx, src, d); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, fmt.Sprint("blob", i))
		create(t, path, func(w io.Writer) error { return decode(w, m, objects) })
		img.Devices = append(img.Devices, path)
	}
	return img
}

// decode writes the bytes of a blob.
func decode(w io.Writer, m *blob.Map, objects [][]byte) error {
	d, err := blob.NewDecoder(1)
	if err != nil {
		return err
	}
	defer d.Close()
	var buf []byte
	for i := range m.Frames() {
		f := m.Frame(i)
		buf = append(buf[:0], make([]byte, f.Len)...)
		if err := d.Decode(buf, objects[f.Source][f.SrcOff:f.SrcOff+int64(f.SrcLen)], f); err != nil {
			return err
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

func create(t testing.TB, path string, write func(io.Writer) error) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	err = write(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		t.Fatalf("write %s: %v", path, err)
	}
}

// TarOf lets GNU tar pack a directory with all it has but sockets, and returns the file.
func TarOf(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "source.tar")
	args := []string{"-c", "-C", dir, "--format=pax", "--sparse", "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*", "-f", path, "."}
	if out, err := exec.Command(require.Tool(t, "tar"), args...).CombinedOutput(); err != nil {
		t.Fatalf("tar -c: %v\n%s", err, out)
	}
	return path
}
