package artifact

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/registry/registrytest"
)

// pushSample stores the sample at a place and loads it.
func pushSample(t *testing.T, client *registry.Client, where string, c Contents) (Place, *Artifact) {
	t.Helper()
	place, _ := at(t, client, where)
	pushed, err := Push(context.Background(), place.Target(), c)
	if err != nil {
		t.Fatal(err)
	}
	return place, reload(t, client, where, pushed)
}

func reload(t *testing.T, client *registry.Client, where string, pushed Pushed) *Artifact {
	t.Helper()
	place, ref := at(t, client, where)
	ref.Tag, ref.Digest = "", pushed.Descriptor.Digest
	a, err := place.Load(context.Background(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCopyIsTheSameArtifact(t *testing.T) {
	client := registrytest.Client(t)
	here, there := servertest.Distribution(t, nil).Addr, servertest.Distribution(t, nil).Addr
	for name, c := range map[string]struct {
		from, to string
		mounted  bool
	}{
		"within a registry":  {here + "/a", here + "/b", true},
		"between registries": {here + "/a", there + "/a", false},
		"to a layout":        {here + "/a", "oci:" + t.TempDir() + "/l", false},
		"from a layout":      {"oci:" + t.TempDir() + "/l", there + "/c", false},
	} {
		from, a := pushSample(t, client, c.from, sample(t))
		to, _ := at(t, client, c.to)
		done, total := int64(0), int64(0)
		pushed, err := Copy(context.Background(), a, from, to.Target(), CopyOptions{Progress: func(d, n int64) { done, total = d, n }})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if pushed.Descriptor.Digest != a.Descriptor.Digest || (pushed.Mounted > 0) != c.mounted || (pushed.Copied > 0) == c.mounted || done != total {
			t.Errorf("%s: %+v, progress %d of %d", name, pushed, done, total)
		}
		var meta bytes.Buffer
		if err := reload(t, client, c.to, pushed).FetchMeta(context.Background(), &meta); err != nil || !bytes.Equal(meta.Bytes(), plainMeta) {
			t.Errorf("%s: metadata image of %d bytes, %v", name, meta.Len(), err)
		}
		if again, err := Copy(context.Background(), a, from, to.Target(), CopyOptions{}); err != nil || again.Copied+again.Mounted+again.Sent != 0 {
			t.Errorf("%s: the second time %+v, %v", name, again, err)
		}
	}
}

// from opens objects that are on a shelf, or else at a place.
func (s *shelf) from(place Place) func(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
	return func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		if b := s.objects[desc.Digest]; b != nil {
			return io.NopCloser(bytes.NewReader(b)), nil
		}
		return place.Target().Fetch(ctx, desc)
	}
}

func TestCopyMovesData(t *testing.T) {
	ctx := context.Background()
	client := registrytest.Client(t)
	reg := servertest.Distribution(t, nil).Addr
	from, plain := pushSample(t, client, reg+"/plain", sample(t))
	first, second := new(shelf), new(shelf)

	// Out of the registry.
	to, _ := at(t, client, reg+"/attached")
	pushed, err := Copy(ctx, plain, from, to.Target(), CopyOptions{Attached: first, Open: first.from(from)})
	if err != nil {
		t.Fatal(err)
	}
	attached := reload(t, client, reg+"/attached", pushed)
	if len(first.objects) != 2 || pushed.Attached == 0 || !attached.Blobs[0].Away(0) || attached.Subject == nil || attached.MetaDigest != plain.MetaDigest {
		t.Errorf("%d objects are attached: %+v", len(first.objects), pushed)
	}
	if ok, err := to.Target().Exists(ctx, attached.Blobs[0].Sources[0]); ok || err != nil {
		t.Errorf("the data is in the registry too: %v, %v", ok, err)
	}

	// To other storage, without being in a registry in between.
	layout := "oci:" + t.TempDir() + "/l"
	at2, _ := at(t, client, layout)
	if pushed, err = Copy(ctx, attached, to, at2.Target(), CopyOptions{Attached: second, Keep: true, Open: first.from(to)}); err != nil {
		t.Fatal(err)
	}
	both := reload(t, client, layout, pushed)
	if len(second.objects) != 2 || both.Blobs[0].Away(0) || len(both.Blobs[0].Sources[0].URLs) != 2 {
		t.Errorf("%d objects are attached, away is %v", len(second.objects), both.Blobs[0].Away(0))
	}

	// And back to where it came from.
	back, _ := at(t, client, reg+"/back")
	if pushed, err = Copy(ctx, attached, to, back.Target(), CopyOptions{Keep: true, Open: first.from(to)}); err != nil {
		t.Fatal(err)
	}
	home := reload(t, client, reg+"/back", pushed)
	if home.Blobs[0].Away(0) || !slices.Equal(home.Blobs[0].Sources[0].URLs, attached.Blobs[0].Sources[0].URLs) {
		t.Errorf("away is %v, at %q", home.Blobs[0].Away(0), home.Blobs[0].Sources[0].URLs)
	}

	// A plain copy of what is attached leaves the data where it is.
	still, _ := at(t, client, reg+"/still")
	if pushed, err = Copy(ctx, attached, to, still.Target(), CopyOptions{}); err != nil || pushed.Descriptor.Digest != attached.Descriptor.Digest {
		t.Errorf("%s, %v", pushed.Descriptor.Digest, err)
	}
}

func TestCopyVerifiesWhatMoves(t *testing.T) {
	from, a := pushSample(t, nil, "oci:"+t.TempDir()+"/from", sample(t))
	to, _ := at(t, nil, "oci:"+t.TempDir()+"/to")
	storage := new(shelf)
	_, err := Copy(context.Background(), a, from, to.Target(), CopyOptions{Attached: storage, Open: func(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(make([]byte, desc.Size))), nil
	}})
	if err == nil || len(storage.objects) != 0 {
		t.Errorf("wrong bytes are attached: %v", err)
	}
	_, err = Copy(context.Background(), a, from, to.Target(), CopyOptions{Attached: storage, Open: func(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
		return nil, errors.New("nobody has it")
	}})
	if err == nil || !strings.Contains(err.Error(), "nobody has it") {
		t.Errorf("error is %v", err)
	}
}
