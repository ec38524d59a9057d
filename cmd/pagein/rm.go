package main

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/profiles"
	"github.com/pagein/pagein/oci/registry"
)

const rmDescription = `Deletes the image REF from its registry, with the artifacts that it names, and the artifacts and profiles that are attached to it or to the images of its platforms, signatures included. With --artifacts the image stays,
and is pulled as any other from then on; with --keep-profiles, too, so do the profiles, for the next artifact. If REF is an artifact, that is deleted. An image that other tags name too is not deleted: they would lose it. What the registry stores
for none but what was deleted, it frees when it collects garbage.`

// maxTags bounds how many tags of a repository are looked at.
const maxTags = 10_000

// rmCommand is "pagein rm".
func rmCommand() *cli.Command {
	return &cli.Command{
		Name:        "rm",
		Usage:       "delete an image and what is attached to it, or only that, from a registry",
		ArgsUsage:   "REF",
		Description: rmDescription,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "artifacts", Usage: "delete the artifacts and profiles, and leave the image"},
			&cli.BoolFlag{Name: "keep-profiles", Usage: "with --artifacts, leave the profiles too"},
			&cli.BoolFlag{Name: "quiet", Usage: "print nothing but errors"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misuse(c, "want REF; there are %d operands", c.NArg())
			}
			ref, err := oci.ParseRef(c.Args().First())
			if err != nil {
				return misuse(c, "%v", err)
			}
			if ref.Kind != oci.Registry {
				return misuse(c, "REF %s must be HOST/REPOSITORY[:TAG][@DIGEST]: what is in a directory is deleted with it", ref)
			}
			if c.Bool("keep-profiles") && !c.Bool("artifacts") {
				return misuse(c, "--keep-profiles is for --artifacts: without the image, its profiles are not found")
			}
			if err := remove(c, ref); err != nil {
				return fmt.Errorf("delete %s: %w", ref, err)
			}
			return nil
		},
	}
}

// remove deletes artifacts first: if that is all that succeeds, the image is an ordinary one.
func remove(c *cli.Context, ref oci.Ref) error {
	ctx := c.Context
	r, client, err := openRemote(c)
	if err != nil {
		return err
	}
	defer r.Close()
	defer client.Close()
	place, err := artifact.Open(client, ref)
	if err != nil {
		return err
	}
	doomed, err := doom(ctx, place, ref, c.Bool("artifacts"), c.Bool("keep-profiles"))
	if err != nil {
		return err
	}
	for _, desc := range doomed {
		if err := place.Repository.Manifests().Delete(ctx, desc); err != nil {
			return fmt.Errorf("%s: %w", desc.Digest, registry.Explain(err))
		}
		gone := oci.Ref{Kind: ref.Kind, Host: ref.Host, Repository: ref.Repository, Digest: desc.Digest}
		if !c.Bool("quiet") {
			if _, err := fmt.Fprintln(c.App.Writer, gone); err != nil {
				return err
			}
		}
	}
	return nil
}

// doom lists what is to be deleted, in order.
func doom(ctx context.Context, place artifact.Place, ref oci.Ref, onlyArtifacts, keepProfiles bool) ([]ocispec.Descriptor, error) {
	desc, err := place.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	ours, err := place.IsArtifact(ctx, desc)
	if err != nil {
		return nil, err
	}
	artifacts := []ocispec.Descriptor{desc}
	if !ours {
		if artifacts, err = place.OfImage(ctx, desc); err != nil {
			return nil, err
		}
	}
	doomed, err := withSignatures(ctx, place.Repository, artifacts)
	if err == nil && !ours && !keepProfiles {
		var found []ocispec.Descriptor
		found, err = profiles.OfImage(ctx, place, desc)
		doomed = append(doomed, found...)
	}
	if err != nil || !ours && onlyArtifacts {
		return doomed, err
	}
	if err := onlyTag(ctx, place.Repository, ref, desc); err != nil {
		return nil, err
	}
	if !ours {
		doomed = append(doomed, desc)
	}
	return doomed, nil
}

// onlyTag makes sure that no other tag names the same manifest: registries delete manifests, with all of their tags.
func onlyTag(ctx context.Context, repo *registry.Repository, ref oci.Ref, desc ocispec.Descriptor) error {
	if ref.Digest != "" {
		return nil // it is meant as it is
	}
	seen := 0
	err := repo.Tags(ctx, "", func(tags []string) error {
		if seen += len(tags); seen > maxTags {
			return fmt.Errorf("the repository has more than %d tags; name the image by its digest, %s", maxTags, desc.Digest)
		}
		for _, tag := range tags {
			if tag == ref.Reference() {
				continue
			}
			other, err := repo.Resolve(ctx, tag)
			if err != nil {
				return fmt.Errorf("tag %s: %w", tag, err)
			}
			if other.Digest == desc.Digest {
				return errors.New("tag " + tag + " names the same manifest; to delete both, name it by its digest, " + desc.Digest.String())
			}
		}
		return nil
	})
	return registry.Explain(err)
}
