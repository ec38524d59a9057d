package attach

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestObjectsAreNamedByTheirDigests(t *testing.T) {
	content := []byte("an object")
	desc := ocispec.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}
	name := "sha256-" + desc.Digest.Encoded()
	a, b := t.TempDir(), t.TempDir()
	s, err := New([]string{"file://" + a, "https://cdn.example.com/images/=file://" + b + "/sub/"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, want := range []int64{18, 0} {
		urls, sent, err := s.Attach(context.Background(), desc, bytes.NewReader(content))
		if err != nil || sent != want || !slices.Equal(urls, []string{"file://" + a + "/" + name, "https://cdn.example.com/images/" + name}) {
			t.Errorf("%d bytes sent, want %d: %q, %v", sent, want, urls, err)
		}
	}
	for _, path := range []string{filepath.Join(a, name), filepath.Join(b, "sub", name)} {
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

func TestPlacesInS3KeepTheirParameters(t *testing.T) {
	p, err := parse("s3://bucket/a?endpoint=https://minio.example.com&region=eu")
	if err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{Digest: digest.FromString("x")}
	if got, want := object(p.read, desc), "s3://bucket/a/sha256-"+desc.Digest.Encoded()+"?endpoint=https://minio.example.com&region=eu"; got != want {
		t.Errorf("it is %s, want %s", got, want)
	}
}

func TestPlacesThatCannotBeWrittenAreRefused(t *testing.T) {
	for _, spec := range []string{
		"", "bucket", "https://example.com/a", "file:///", "file://host/a", "s3:///a", "ftp://a=s3://b", "s3://me:secret@bucket", "file:///a?b", "https://a?b=c=s3://bucket", "s3://a#b",
		"=s3://bucket", "s3://bucket=https://example.com",
	} {
		if a, err := New([]string{spec}); err == nil {
			a.Close()
			t.Errorf("%q is accepted", spec)
		}
	}
	if _, err := New(nil); err == nil {
		t.Error("nothing is accepted")
	}
}
