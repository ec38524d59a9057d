package main

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/convert"
	"github.com/pagein/pagein/oci/optimize"
	"github.com/pagein/pagein/oci/profiles"
	"github.com/pagein/pagein/oci/view"
	"github.com/pagein/pagein/profile"
)

// loadProfile reads the profile that the options name; that of auto depends on the image.
func (r *convertRun) loadProfile(ctx context.Context) (err error) {
	if name := r.c.String("profile"); name != "" && name != autoProfile {
		l := &looker{c: r.c, remote: r.remote, client: r.client}
		r.touched, err = l.profile(ctx, name)
	}
	return err
}

// layOut makes another artifact of the one that was made, for the profile, if there is one.
func (r *convertRun) layOut(ctx context.Context, dst artifact.Place, image ocispec.Descriptor, made *convert.Result) error {
	p, err := r.profileOf(ctx, image)
	if err != nil || p == nil {
		return err
	}
	a, err := artifact.Load(ctx, dst.Target(), made.Descriptor, r.artifact(*made).String())
	if err != nil {
		return err
	}
	v, err := view.Open(ctx, dst, a, view.Options{TempDir: r.options.TempDir, Remote: r.remote})
	if err != nil {
		return err
	}
	defer v.Close() // files without names
	o := optimize.Options{Level: r.options.Blob.Level, TempDir: r.options.TempDir, Ready: r.options.Ready}
	if r.attaches() {
		o.After = &artifact.Predecessor{Digest: a.Descriptor.Digest, Generation: a.Generation}
	}
	result, err := optimize.Run(ctx, v, dst, dst.Target(), p, o)
	if errors.Is(err, optimize.ErrNothing) {
		r.options.Note(err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	made.Descriptor, r.laidOut = result.Descriptor, &result
	return nil
}

// profileOf returns what is touched of an image, nil if nobody asked for that.
func (r *convertRun) profileOf(ctx context.Context, image ocispec.Descriptor) (*profile.Profile, error) {
	if r.c.String("profile") != autoProfile {
		return r.touched, nil
	}
	src, err := artifact.Open(r.client, r.src)
	if err != nil {
		return nil, fmt.Errorf("find the profile of %s: %w", r.src, err)
	}
	return profiles.Attached(ctx, src, image, r.options.Note)
}
