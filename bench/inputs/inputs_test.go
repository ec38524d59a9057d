package inputs

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// tree makes a small directory.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, size := range map[string]int{"a": 10, "sub/b": 5000, "skip/c": 1} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, make([]byte, size), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSameLayersGiveTheSameValidImage(t *testing.T) {
	dir := tree(t)
	files := Files{Seed: 3, Count: 250, MinSize: 100, MaxSize: 5000, Text: 0.5}
	var digests [2]string
	for i := range digests {
		path := filepath.Join(t.TempDir(), "image")
		compressed, err := WriteImage(t.Context(), path, v1.ImageConfig{}, Tar(dir), Generated("made", files))
		if err != nil {
			t.Fatal(err)
		}
		if compressed <= 0 {
			t.Errorf("layers of %d bytes", compressed)
		}
		index, err := layout.ImageIndexFromPath(path)
		if err != nil {
			t.Fatal(err)
		}
		all, err := index.IndexManifest()
		if err != nil || len(all.Manifests) != 1 {
			t.Fatalf("%d images, error %v", len(all.Manifests), err)
		}
		image, err := index.Image(all.Manifests[0].Digest)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(image); err != nil {
			t.Errorf("go-containerregistry finds the image invalid: %v", err)
		}
		digests[i] = all.Manifests[0].Digest.String()
	}
	if digests[0] != digests[1] {
		t.Error("two images of the same layers differ")
	}
}

func TestAFailingLayerFailsTheImage(t *testing.T) {
	if _, err := WriteImage(t.Context(), t.TempDir(), v1.ImageConfig{}, Tar(filepath.Join(t.TempDir(), "absent"))); err == nil {
		t.Error("an image of nothing was written")
	}
}

func TestTarLeavesOutWhatIsExcluded(t *testing.T) {
	var b bytes.Buffer
	if err := Tar(tree(t), "skip")(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if len(names) != 4 || names[1] != "./a" || names[3] != "./sub/b" {
		t.Errorf("the tar holds %q", names)
	}
}

func TestGeneratedFilesHaveTheSizesAskedFor(t *testing.T) {
	var b bytes.Buffer
	if err := Generated("top", Files{Count: 200, MinSize: 10, MaxSize: 20, Text: 1})(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	files := 0
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if files++; h.Size < 10 || h.Size > 20 {
				t.Errorf("%s has %d bytes", h.Name, h.Size)
			}
		}
	}
	if files != 200 {
		t.Errorf("%d files", files)
	}
}

func TestCensusCountsNames(t *testing.T) {
	inodes, nameBytes, err := Census(tree(t))
	if err != nil || inodes != 6 || nameBytes != int64(len("a"+"sub"+"b"+"skip"+"c")) {
		t.Errorf("%d inodes with %d bytes of names, error %v", inodes, nameBytes, err)
	}
}
