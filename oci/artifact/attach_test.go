package artifact

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/oci/registry/registrytest"
)

// shelf is attached storage in memory.
type shelf struct {
	objects map[digest.Digest][]byte
	fail    error
}

func (s *shelf) Attach(_ context.Context, desc ocispec.Descriptor, r io.ReaderAt) ([]string, int64, error) {
	if s.fail != nil {
		return nil, 0, s.fail
	}
	if s.objects == nil {
		s.objects = make(map[digest.Digest][]byte)
	}
	sent := int64(0)
	if s.objects[desc.Digest] == nil {
		b := make([]byte, desc.Size)
		if _, err := r.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, err
		}
		s.objects[desc.Digest], sent = b, desc.Size
	}
	return []string{"s3://bucket/" + desc.Digest.Encoded(), "file:///mnt/" + desc.Digest.Encoded()}, sent, nil
}

func TestAttachedObjectsNeedNotBeInTheRegistry(t *testing.T) {
	client := registrytest.Client(t)
	for _, to := range []string{servertest.Distribution(t, nil).Addr + "/app", "oci:" + t.TempDir() + "/l"} {
		for _, keep := range []bool{false, true} {
			ctx := context.Background()
			place, ref := at(t, client, to)
			contents, storage := sample(t), new(shelf)
			contents.Attached, contents.Keep = storage, keep
			size := int64(0)
			for _, b := range contents.Blobs {
				size += b.Map.SourceSize(0)
			}
			pushed, err := Push(ctx, place.Target(), contents)
			if err != nil {
				t.Fatal(err)
			}
			if pushed.Attached != size || pushed.Stored < size {
				t.Errorf("%s: %d of %d bytes are attached, %d stored", to, pushed.Attached, size, pushed.Stored)
			}
			ref.Tag, ref.Digest = "", pushed.Descriptor.Digest
			a, err := place.Load(ctx, ref)
			if err != nil {
				t.Fatal(err)
			}
			for i, b := range a.Blobs {
				src := b.Sources[0]
				if len(src.URLs) != 2 || src.URLs[0] != "s3://bucket/"+src.Digest.Encoded() || storage.objects[src.Digest] == nil {
					t.Errorf("%s: blob %d is at %q", to, i, src.URLs)
				}
				ok, err := place.Target().Exists(ctx, src)
				if err != nil || ok != keep || b.Away(0) == keep {
					t.Errorf("%s: kept is %v, stored is %v, away is %v, %v", to, keep, ok, b.Away(0), err)
				}
				isLayer := slices.ContainsFunc(b.Layers(), func(d ocispec.Descriptor) bool { return d.Digest == src.Digest })
				if isLayer != keep {
					t.Errorf("%s: kept is %v, a layer %v", to, keep, isLayer)
				}
			}
			if again, err := Push(ctx, place.Target(), contents); err != nil || again.Attached != 0 || again.Descriptor.Digest != pushed.Descriptor.Digest {
				t.Errorf("%s: the second time %d bytes are attached, %v", to, again.Attached, err)
			}
		}
	}
}

func TestBorrowedBlobsStayWhereTheyAreAttached(t *testing.T) {
	ctx := context.Background()
	from, ref := at(t, nil, "oci:"+t.TempDir()+"/from")
	contents := sample(t)
	contents.Attached = new(shelf)
	pushed, err := Push(ctx, from.Target(), contents)
	if err != nil {
		t.Fatal(err)
	}
	ref.Tag, ref.Digest = "", pushed.Descriptor.Digest
	dict, err := from.Load(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	to, ref := at(t, nil, "oci:"+t.TempDir()+"/to")
	if pushed, err = Push(ctx, to.Target(), borrowing(dict, from)); err != nil {
		t.Fatal(err)
	}
	ref.Tag, ref.Digest = "", pushed.Descriptor.Digest
	a, err := to.Load(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, b := range a.Blobs {
		if b.Depth == 1 {
			found = true
			if !b.Away(0) || len(b.Sources[0].URLs) != 2 {
				t.Errorf("blob %s is at %q", b.ID, b.Sources[0].URLs)
			}
		}
	}
	if !found {
		t.Error("nothing is borrowed")
	}
}

func TestFailingAttachmentPushesNothing(t *testing.T) {
	place, _ := at(t, nil, "oci:"+t.TempDir()+"/l")
	contents := sample(t)
	contents.Attached = &shelf{fail: errors.New("the bucket is full")}
	if _, err := Push(context.Background(), place.Target(), contents); err == nil || !strings.Contains(err.Error(), "the bucket is full") {
		t.Errorf("error is %v", err)
	}
}

func TestObjectsThatMakeNoSenseAreRefused(t *testing.T) {
	d := digest.FromString("object")
	good := ocispec.Descriptor{MediaType: MediaTypeObject, Digest: d, Size: 10, URLs: []string{"https://example.com/object"}}
	if err := checkObjects([]ocispec.Descriptor{good}); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*ocispec.Descriptor)) []ocispec.Descriptor {
		o := good
		change(&o)
		return []ocispec.Descriptor{o}
	}
	for name, objects := range map[string][]ocispec.Descriptor{
		"twice":       {good, good},
		"no digest":   with(func(o *ocispec.Descriptor) { o.Digest = "" }),
		"no size":     with(func(o *ocispec.Descriptor) { o.Size = 0 }),
		"other type":  with(func(o *ocispec.Descriptor) { o.MediaType = MediaTypeMap }),
		"no place":    with(func(o *ocispec.Descriptor) { o.URLs = nil }),
		"many places": with(func(o *ocispec.Descriptor) { o.URLs = make([]string, maxURLs+1) }),
		"line feed":   with(func(o *ocispec.Descriptor) { o.URLs = []string{"https://a/\nb"} }),
		"long":        with(func(o *ocispec.Descriptor) { o.URLs = []string{"https://a/" + strings.Repeat("x", maxURL)} }),
	} {
		if err := checkObjects(objects); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	l := layers{d: {MediaType: MediaTypeObject, Digest: d, Size: 11}}
	if _, _, err := newObjects([]ocispec.Descriptor{good}).source(l, d); err == nil {
		t.Error("an object of another size than the layer's is accepted")
	}
	if _, _, err := newObjects(nil).source(layers{d: {MediaType: MediaTypeObject, Digest: d, Size: 11, URLs: make([]string, maxURLs+1)}}, d); err == nil {
		t.Error("a layer with many places is accepted")
	}
	if _, _, err := newObjects(nil).source(layers{}, d); err == nil {
		t.Error("an object that is nowhere is accepted")
	}
}
