package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/image"
	"github.com/pagein/pagein/oci/registry"
)

// annotated names the copy of the image that names its artifact.
func (r *convertRun) annotated() oci.Ref {
	ref := r.src
	ref.Tag += r.suffix
	return ref
}

// checkTags refuses to take a tag from what is not ours.
func (r *convertRun) checkTags(ctx context.Context, place artifact.Place) error {
	if r.tag != "" {
		return checkTag(ctx, place, r.dst)
	}
	if r.suffix == "" {
		return nil
	}
	ref := r.annotated()
	desc, err := place.Resolve(ctx, ref)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find out what %s names: %w", ref, err)
	}
	named, err := image.AnnotationOf(ctx, place.Target(), desc, artifact.Annotation)
	switch {
	case err != nil:
		return fmt.Errorf("find out what %s names: %w", ref, err)
	case named == "":
		return fmt.Errorf("%s names %s, which names no artifact of pagein; choose another suffix, or the image would lose its tag", ref, desc.Digest)
	}
	return nil
}

// pushAnnotated pushes and tags a copy of the image whose layers name the artifacts, which are given by the digests of their images.
func (r *convertRun) pushAnnotated(ctx context.Context, place artifact.Place, desc ocispec.Descriptor, artifacts map[digest.Digest]string) error {
	copied, err := image.Annotate(ctx, place.Target(), desc, artifact.Annotation, artifacts)
	if err != nil {
		return err
	}
	ref := r.annotated()
	if err := r.checkTags(ctx, place); err != nil { // somebody may have pushed meanwhile
		return err
	}
	if err := place.Target().Tag(ctx, copied, ref.Tag); err != nil {
		return fmt.Errorf("tag %s: %w", ref, registry.Explain(err))
	}
	if r.c.Bool("quiet") || r.c.Bool("json") {
		return nil
	}
	ref.Digest = copied.Digest
	_, err = fmt.Fprintln(r.c.App.Writer, ref)
	return err
}
