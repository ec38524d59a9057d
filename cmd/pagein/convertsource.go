package main

import (
	"context"
	"errors"
	"io"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/convert"
	"github.com/pagein/pagein/oci/image"
)

// convertSource is what is to be converted.
type convertSource struct {
	desc        ocispec.Descriptor // of an image or an index
	conversions []conversion       // at least one
}

// conversion is what makes one artifact.
type conversion struct {
	image ocispec.Descriptor // the manifest, if it is made from an image
	run   func(context.Context, oras.Target) (convert.Result, error)
}

// openSource finds the source, so that a wrong name is reported before a destination is made.
func (r *convertRun) openSource(ctx context.Context) (s convertSource, err error) {
	c := conversion{}
	switch r.src.Kind {
	case oci.Dir:
		c.run, err = r.openDir()
	case oci.Tar:
		c.run, err = r.openTar()
	default:
		return r.openImage(ctx)
	}
	s.conversions = []conversion{c}
	return s, err
}

func (r *convertRun) openDir() (func(context.Context, oras.Target) (convert.Result, error), error) {
	if _, err := os.Stat(r.src.Path); err != nil {
		return nil, err
	}
	return func(ctx context.Context, dst oras.Target) (convert.Result, error) {
		return convert.Dir(ctx, r.src.Path, dst, r.options)
	}, nil
}

func (r *convertRun) openTar() (func(context.Context, oras.Target) (convert.Result, error), error) {
	in := io.NopCloser(r.c.App.Reader)
	if r.src.Path != "-" {
		f, err := os.Open(r.src.Path)
		if err != nil {
			return nil, err
		}
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			r.options.TarSize = info.Size()
		}
		in = f
	}
	return func(ctx context.Context, dst oras.Target) (convert.Result, error) {
		defer in.Close() // only read
		return convert.Tar(ctx, in, dst, r.options)
	}, nil
}

// openImage finds the images of the platforms that were asked for.
func (r *convertRun) openImage(ctx context.Context) (s convertSource, err error) {
	place, err := artifact.Open(r.client, r.src)
	if err != nil {
		return s, err
	}
	if s.desc, err = place.Resolve(ctx, r.src); err != nil {
		return s, err
	}
	if ours, err := place.IsArtifact(ctx, s.desc); err != nil {
		return s, err
	} else if ours {
		return s, errors.New("it is an artifact of pagein already: mount it as it is; pagein copy copies it")
	}
	images, err := r.chooseImages(ctx, place, s.desc)
	for _, desc := range images {
		s.conversions = append(s.conversions, conversion{desc, func(ctx context.Context, dst oras.Target) (convert.Result, error) {
			return convert.Image(ctx, place.Target(), desc, dst, r.options)
		}})
	}
	return s, err
}

// chooseImages returns manifests, each once.
func (r *convertRun) chooseImages(ctx context.Context, place artifact.Place, desc ocispec.Descriptor) (images []ocispec.Descriptor, err error) {
	if r.all {
		return image.All(ctx, place.Target(), desc)
	}
	platforms := r.platforms
	if len(platforms) == 0 {
		platforms = []*ocispec.Platform{nil}
	}
	seen := make(map[string]bool)
	for _, p := range platforms {
		chosen, err := image.Choose(ctx, place.Target(), desc, p)
		if err != nil {
			return nil, err
		}
		if !seen[chosen.Digest.String()] {
			seen[chosen.Digest.String()] = true
			if p != nil {
				chosen.Platform = p // which dictionaries are for, too
			}
			images = append(images, chosen)
		}
	}
	return images, nil
}
