package artifact

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/registry/registrytest"
)

// gallery is an image in a registry to which artifacts are attached.
type gallery struct {
	*testing.T
	place Place
	ref   oci.Ref
	image ocispec.Descriptor
}

func newGallery(t *testing.T) *gallery {
	t.Helper()
	client := registrytest.Client(t)
	g := &gallery{T: t}
	g.place, g.ref = at(t, client, servertest.Distribution(t, nil).Addr+"/app:1")
	config := g.push(ocispec.MediaTypeImageConfig, ocispec.Image{})
	g.image = g.push(ocispec.MediaTypeImageManifest, ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config})
	g.tag(g.image, g.ref.Tag)
	return g
}

func (g *gallery) push(mediaType string, v any) ocispec.Descriptor {
	g.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		g.Fatal(err)
	}
	desc := content.NewDescriptorFromBytes(mediaType, b)
	if err := g.place.Target().Push(g.Context(), desc, bytes.NewReader(b)); err != nil {
		g.Fatal(err)
	}
	return desc
}

func (g *gallery) tag(desc ocispec.Descriptor, tag string) {
	g.Helper()
	if err := g.place.Target().Tag(g.Context(), desc, tag); err != nil {
		g.Fatal(err)
	}
}

// attach attaches an artifact that others with other chains differ from.
func (g *gallery) attach(chain string, after *Predecessor) digest.Digest {
	g.Helper()
	c := sample(g)
	c.Subject, c.Chains, c.After = &g.image, []digest.Digest{digest.FromString(chain)}, after
	pushed, err := Push(g.Context(), g.place.Target(), c)
	if err != nil {
		g.Fatal(err)
	}
	return pushed.Descriptor.Digest
}

// newest is what is found, if all but the given ones are accepted.
func (g *gallery) newest(but ...digest.Digest) *Predecessor {
	g.Helper()
	accept := func(_ context.Context, c Candidate) error {
		for _, d := range but {
			if c.Manifest.Digest == d {
				return errors.New("nobody signed it")
			}
		}
		if c.Ref.Digest != c.Manifest.Digest || c.Ref.Tag != "" || c.Subject.Digest != g.image.Digest {
			g.Errorf("asked about %+v", c)
		}
		return nil
	}
	p, err := g.place.Newest(g.Context(), g.ref, g.image, accept)
	if err != nil {
		g.Fatal(err)
	}
	a, err := g.place.Find(g.Context(), g.ref, nil, accept)
	switch {
	case p == nil && err == nil:
		g.Errorf("%s is found, and nothing is the newest", a.Descriptor.Digest)
	case p != nil && err != nil:
		g.Error(err)
	case p != nil && (a.Descriptor.Digest != p.Digest || a.Generation != p.Generation):
		g.Errorf("%s of generation %d is found, the newest is %+v", a.Descriptor.Digest, a.Generation, p)
	case p == nil && len(but) > 0 && !strings.Contains(err.Error(), "nobody signed it"):
		g.Errorf("error is %v", err)
	}
	return p
}

func TestTheNewestAcceptedArtifactIsFound(t *testing.T) {
	g := newGallery(t)
	if p := g.newest(); p != nil {
		t.Fatalf("%+v is attached", p)
	}
	var made []digest.Digest
	for i, chain := range []string{"a", "b", "c"} {
		last := g.newest()
		made = append(made, g.attach(chain, last))
		if again := g.attach(chain, g.newest()); again != made[i] {
			t.Errorf("the same artifact made again is another one, %s", again)
		}
		if p := g.newest(); p.Digest != made[i] || p.Generation != i {
			t.Errorf("made %s, the newest is %+v", made[i], p)
		}
	}
	if back := g.attach("a", g.newest()); g.newest().Digest != back || g.newest().Generation != 3 {
		t.Errorf("what was made last is not the newest: %+v", g.newest())
	} else {
		made = append(made, back)
	}
	if p := g.newest(made[3]); p.Digest != made[2] {
		t.Errorf("without the newest it is %+v", p)
	}
	if p := g.newest(made[3], made[2], made[1]); p.Digest != made[0] {
		t.Errorf("without the three newest it is %+v", p)
	}
	if p := g.newest(made...); p != nil {
		t.Errorf("although none is accepted, it is %+v", p)
	}
}

// TestAListThatLiesDecidesNothing has a registry whose list of referrers says of artifacts what they are not.
func TestAListThatLiesDecidesNothing(t *testing.T) {
	g := newGallery(t)
	old := g.attach("a", nil)
	recent := g.attach("b", g.newest())
	c := sample(t) // of another image
	c.After = &Predecessor{Generation: 7}
	stranger, err := Push(t.Context(), g.place.Target(), c)
	if err != nil {
		t.Fatal(err)
	}
	list, err := g.place.Attached(t.Context(), g.image)
	if err != nil || len(list) != 2 || list[0].Digest != recent {
		t.Fatalf("attached are %v, %v", list, err)
	}
	rollback := list[1]
	rollback.Annotations = annotate(99)
	another := stranger.Descriptor
	another.Annotations = annotate(8)
	g.tag(g.push(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{rollback, another, list[0]},
	}), strings.Replace(g.image.Digest.String(), ":", "-", 1))
	if p := g.newest(); p == nil || p.Digest != recent {
		t.Errorf("the newest is %+v, want %s and not %s", p, recent, old)
	}
}

func TestGenerationsThatMakeNoSenseAreTheFirst(t *testing.T) {
	for s, want := range map[string]int{"": 0, "0": 0, "12": 12, "2147483647": maxGeneration, "2147483648": 0, "-1": 0, "1e3": 0, " 1": 0} {
		if got := generation(map[string]string{AnnotationGeneration: s}); got != want {
			t.Errorf("%q is generation %d, want %d", s, got, want)
		}
	}
	if annotate(0) != nil || generation(annotate(5)) != 5 || generation(nil) != 0 {
		t.Error("what is written is not what is read")
	}
}

// TestWhatIsNotReadyIsNotStored has a signer that fails: nobody must find what should be signed and is not.
func TestWhatIsNotReadyIsNotStored(t *testing.T) {
	g := newGallery(t)
	c := sample(t)
	c.Subject = &g.image
	var signed []ocispec.Descriptor
	c.Ready = func(ctx context.Context, manifest ocispec.Descriptor) error {
		if there, err := g.place.Target().Exists(ctx, manifest); err != nil || there {
			t.Errorf("before it is signed it is there: %v, %v", there, err)
		}
		signed = append(signed, manifest)
		return errors.New("the key is away")
	}
	if _, err := Push(t.Context(), g.place.Target(), c); err == nil || !strings.Contains(err.Error(), "the key is away") || len(signed) != 1 {
		t.Fatalf("error is %v, signed is %v", err, signed)
	}
	if there, err := g.place.Target().Exists(t.Context(), signed[0]); err != nil || there || g.newest() != nil {
		t.Errorf("although it is not signed it is there: %v, %v", there, err)
	}
}
