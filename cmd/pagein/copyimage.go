package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"

	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/profiles"
	"github.com/pagein/pagein/oci/registry"
)

// copyImageSummary is what --image --json prints.
type copyImageSummary struct {
	Source    string   `json:"source"`
	Reference string   `json:"reference"` // of the copied image, by digest
	Artifacts []string `json:"artifacts"` // by digest
	Profiles  []string `json:"profiles"`  // by digest
	Seconds   float64  `json:"seconds"`
}

// runImage copies an image and what is attached to it. The image gets its tag last: who finds it finds that, too.
func (r *copyRun) runImage(ctx context.Context) (err error) {
	started := time.Now()
	if r.remote, r.client, err = openRemote(r.c); err != nil {
		return err
	}
	defer r.remote.Close()
	defer r.client.Close()
	s := copyImageSummary{Source: r.src.String(), Artifacts: []string{}, Profiles: []string{}}
	desc, err := r.copyImage(ctx, &s)
	if err != nil {
		return fmt.Errorf("copy %s to %s: %w", r.src, r.dst, err)
	}
	dst := r.dst
	dst.Tag, dst.Digest = r.dst.Reference(), desc.Digest
	s.Reference, s.Seconds = dst.String(), time.Since(started).Seconds()
	switch {
	case r.c.Bool("json"):
		return printJSON(r.c, s)
	case r.c.Bool("quiet"):
		return nil
	}
	_, err = fmt.Fprintf(r.c.App.Writer, "%s\nwith %s and %s; %s\n", s.Reference, count(int64(len(s.Artifacts)), "artifact"), count(int64(len(s.Profiles)), "profile"), time.Since(started).Round(time.Millisecond))
	return err
}

// copyImage copies the image and then what is attached to it, and says in s what that was.
func (r *copyRun) copyImage(ctx context.Context, s *copyImageSummary) (desc ocispec.Descriptor, err error) {
	from, err := artifact.Open(r.client, r.src)
	if err != nil {
		return desc, err
	}
	to, err := artifact.Open(r.client, r.dst)
	if err != nil {
		return desc, err
	}
	if desc, err = from.Resolve(ctx, r.src); err != nil {
		return desc, err
	}
	if ours, err := from.IsArtifact(ctx, desc); err != nil {
		return desc, err
	} else if ours {
		return desc, errors.New("SRC is no image but an artifact: copy it without --image")
	}
	artifacts, err := from.OfImage(ctx, desc)
	if err != nil {
		return desc, err
	}
	touched, err := profiles.OfImage(ctx, from, desc)
	if err != nil {
		return desc, err
	}
	if err := oras.CopyGraph(ctx, from.Target(), to.Target(), desc, oras.CopyGraphOptions{}); err != nil {
		return desc, registry.Explain(err)
	}
	for _, d := range artifacts {
		a, err := artifact.Load(ctx, from.Target(), d, d.Digest.String())
		if err != nil {
			return desc, err
		}
		pushed, err := artifact.Copy(ctx, a, from, to.Target(), artifact.CopyOptions{})
		if err != nil {
			return desc, err
		}
		if err := copySignatures(ctx, from, to, a, pushed.Descriptor); err != nil {
			return desc, err
		}
		s.Artifacts = append(s.Artifacts, d.Digest.String())
	}
	for _, d := range touched {
		if err := profiles.Copy(ctx, from, to, d); err != nil {
			return desc, err
		}
		s.Profiles = append(s.Profiles, d.Digest.String())
	}
	if err := to.Target().Tag(ctx, desc, r.dst.Reference()); err != nil {
		return desc, fmt.Errorf("tag: %w", registry.Explain(err))
	}
	return desc, nil
}
