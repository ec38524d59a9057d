package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"

	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/registry"
)

// copyImageSummary is what --image --json prints.
type copyImageSummary struct {
	Source    string   `json:"source"`
	Reference string   `json:"reference"` // of the copied image, by digest
	Artifacts []string `json:"artifacts"` // by digest
	Seconds   float64  `json:"seconds"`
}

// runImage copies an image and its artifacts. The image gets its tag last: who finds it finds its artifacts.
func (r *copyRun) runImage(ctx context.Context) (err error) {
	started := time.Now()
	if r.remote, r.client, err = openRemote(r.c); err != nil {
		return err
	}
	defer r.remote.Close()
	defer r.client.Close()
	desc, artifacts, err := r.copyImage(ctx)
	if err != nil {
		return fmt.Errorf("copy %s to %s: %w", r.src, r.dst, err)
	}
	dst := r.dst
	dst.Tag, dst.Digest = r.dst.Reference(), desc.Digest
	s := copyImageSummary{Source: r.src.String(), Reference: dst.String(), Artifacts: artifacts, Seconds: time.Since(started).Seconds()}
	switch {
	case r.c.Bool("json"):
		return printJSON(r.c, s)
	case r.c.Bool("quiet"):
		return nil
	}
	_, err = fmt.Fprintf(r.c.App.Writer, "%s\nwith %d artifacts; %s\n", s.Reference, len(artifacts), time.Since(started).Round(time.Millisecond))
	return err
}

func (r *copyRun) copyImage(ctx context.Context) (desc ocispec.Descriptor, artifacts []string, err error) {
	from, err := artifact.Open(r.client, r.src)
	if err != nil {
		return desc, nil, err
	}
	to, err := artifact.Open(r.client, r.dst)
	if err != nil {
		return desc, nil, err
	}
	if desc, err = from.Resolve(ctx, r.src); err != nil {
		return desc, nil, err
	}
	if ours, err := from.IsArtifact(ctx, desc); err != nil {
		return desc, nil, err
	} else if ours {
		return desc, nil, errors.New("SRC is no image but an artifact: copy it without --image")
	}
	found, err := from.OfImage(ctx, desc)
	if err != nil {
		return desc, nil, err
	}
	if err := oras.CopyGraph(ctx, from.Target(), to.Target(), desc, oras.CopyGraphOptions{}); err != nil {
		return desc, nil, registry.Explain(err)
	}
	artifacts = []string{}
	for _, d := range found {
		a, err := artifact.Load(ctx, from.Target(), d, d.Digest.String())
		if err != nil {
			return desc, nil, err
		}
		pushed, err := artifact.Copy(ctx, a, from, to.Target(), artifact.CopyOptions{})
		if err != nil {
			return desc, nil, err
		}
		if err := copySignatures(ctx, from, to, a, pushed.Descriptor); err != nil {
			return desc, nil, err
		}
		artifacts = append(artifacts, d.Digest.String())
	}
	if err := to.Target().Tag(ctx, desc, r.dst.Reference()); err != nil {
		return desc, nil, fmt.Errorf("tag: %w", registry.Explain(err))
	}
	return desc, artifacts, nil
}
