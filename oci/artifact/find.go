package artifact

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/image"
	"github.com/pagein/pagein/oci/registry"
)

// maxTries bounds how many of the artifacts of an image are looked at, until one is accepted.
const maxTries = 16

// Candidate is what may turn out to be an artifact. It has been asked for, by its digest, and nothing but its manifest has been read.
type Candidate struct {
	Place    Place
	Ref      oci.Ref             // by digest
	Manifest ocispec.Descriptor  // the artifact's own; of what is listed as attached, only the digest is more than the list's word
	Subject  *ocispec.Descriptor // the image that it is not used for unless it claims to be made from it, or nil
}

// Accept says why an artifact is not to be used, or nil. Nothing of the artifact but its manifest is read before it has answered. It may be asked while that is on its way.
type Accept func(context.Context, Candidate) error

// check is asked between manifest and config.
type check func(ctx context.Context, manifest ocispec.Descriptor, subject *ocispec.Descriptor) error

// check asks about what is found at a place.
func (accept Accept) check(p Place, ref oci.Ref) check {
	if accept == nil {
		return nil
	}
	return func(ctx context.Context, manifest ocispec.Descriptor, subject *ocispec.Descriptor) error {
		ref.Tag, ref.Digest = "", manifest.Digest
		return accept(ctx, Candidate{Place: p, Ref: ref, Manifest: manifest, Subject: subject})
	}
}

// ahead asks while the manifest is on its way, which saves a round trip to who looks for signatures. The answer can be had once; stop says that it is not wanted any more.
func (accept Accept) ahead(ctx context.Context, c Candidate) (answer <-chan error, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	said, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		if accept == nil {
			said <- nil
			return
		}
		said <- accept(ctx, c)
	}()
	return said, func() {
		cancel()
		<-done
	}
}

// Find opens the place that ref names and loads from there what [Place.Find] finds.
func Find(ctx context.Context, client *registry.Client, ref oci.Ref, platform *ocispec.Platform) (Place, *Artifact, error) {
	place, err := Open(client, ref)
	if err != nil {
		return place, nil, err
	}
	a, err := place.Find(ctx, ref, platform, nil)
	return place, a, err
}

// Find loads the artifact that ref means: the one that it names or, if it names an image in a registry, the newest one that is attached to that image, can be loaded and is accepted; a
// nil accept accepts all. The platform, nil meaning Linux on this machine's architecture, chooses from an index. If there is no artifact, the error is [ErrNotArtifact].
func (p Place) Find(ctx context.Context, ref oci.Ref, platform *ocispec.Platform, accept Accept) (*Artifact, error) {
	listed := p.expect(ctx, ref)
	defer listed.stop()
	desc, a, err := p.load(ctx, ref, accept.check(p, ref))
	if !errors.Is(err, ErrNotArtifact) || p.Repository == nil {
		return a, err
	}
	a, findErr := p.attached(ctx, ref, desc, listed, platform, accept)
	if findErr != nil {
		return nil, findErr
	}
	if a == nil {
		return nil, fmt.Errorf("no artifact is attached to %s, which is %w itself: run pagein convert", ref, ErrNotArtifact)
	}
	return a, nil
}

// Newest returns the newest accepted artifact of an image in the repository that ref names, nil if there is none.
func (p Place) Newest(ctx context.Context, ref oci.Ref, image ocispec.Descriptor, accept Accept) (*Predecessor, error) {
	list, err := p.Attached(ctx, image)
	if err != nil {
		return nil, err
	}
	for _, desc := range list[:min(len(list), maxTries)] {
		a, err := p.belonging(ctx, ref, desc, image, accept)
		if err == nil {
			return &Predecessor{Digest: a.Descriptor.Digest, Generation: a.Generation}, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
	}
	return nil, nil
}

// attached loads the artifact that belongs to the image that ref names, which is what is at desc, and returns nil if there is none. The newest one may not be the operator's, or damaged:
// then it is the one before. Why none can be used is said of the newest.
func (p Place) attached(ctx context.Context, ref oci.Ref, desc ocispec.Descriptor, listed *expected, platform *ocispec.Platform, accept Accept) (*Artifact, error) {
	desc, err := image.Choose(ctx, p.Target(), desc, platform)
	if err != nil {
		return nil, fmt.Errorf("find the image that %s names: %w", ref, err)
	}
	list, err := listed.of(ctx, p, desc)
	if err != nil {
		return nil, err
	}
	for _, found := range list[:min(len(list), maxTries)] {
		a, tryErr := p.belonging(ctx, ref, found, desc, accept)
		if tryErr == nil {
			return a, nil
		}
		if err == nil {
			err = tryErr
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// belonging loads what is listed as an artifact of an image in the repository that ref names, if it is what the list says.
func (p Place) belonging(ctx context.Context, ref oci.Ref, listed, image ocispec.Descriptor, accept Accept) (*Artifact, error) {
	ref.Tag, ref.Digest = "", listed.Digest
	accepted, stop := accept.ahead(ctx, Candidate{Place: p, Ref: ref, Manifest: listed, Subject: &image})
	defer stop()
	a, err := load(ctx, p.Target(), listed, ref.String(), func(_ context.Context, _ ocispec.Descriptor, subject *ocispec.Descriptor) error {
		if subject == nil || subject.Digest != image.Digest {
			return fmt.Errorf("it does not belong to image %s", image.Digest)
		}
		return <-accepted
	})
	if err == nil && a.Generation != generation(listed.Annotations) {
		return nil, fmt.Errorf("%s is of generation %d, and was listed as one of generation %d", ref, a.Generation, generation(listed.Annotations))
	}
	return a, err
}
