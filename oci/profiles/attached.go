package profiles

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/image"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/profile"
)

const (
	// maxListed bounds how many profiles of one image are listed.
	maxListed = 1000
	// maxTried bounds how many of them are read to be merged, and maxMerged how many are merged.
	maxTried, maxMerged = 100, 32
	// maxTouches bounds how many stretches of files those have together, if there are several. A merge has at most twice as many.
	maxTouches = profile.MaxEntries / 2
)

// Attached returns the profiles whose subject is the given manifest, merged: of those that can be used, up to 32, which have up to 2¹⁷ entries, in the order of their digests. What is left out is told to note, and why.
// If there is none, the error is [ErrNone].
func Attached(ctx context.Context, place artifact.Place, subject ocispec.Descriptor, note func(string)) (*profile.Profile, error) {
	if place.Repository == nil {
		return nil, fmt.Errorf("%w can be attached to %s: it is in a directory, where profiles have tags", ErrNone, subject.Digest)
	}
	list, err := listed(ctx, place, subject)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w is attached to %s", ErrNone, subject.Digest)
	}
	var m merge
	var first error
	for tried, desc := range list {
		if tried == maxTried || len(m.all) == maxMerged {
			note(fmt.Sprintf("%d more profiles are attached to %s: the first %d that can be used, in the order of their digests, are taken", len(list)-tried, subject.Digest, maxMerged))
			break
		}
		err := m.add(ctx, place, desc, subject)
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return nil, err
		}
		note(fmt.Sprintf("an attached profile is left out: %v", err))
		if first == nil {
			first = err
		}
	}
	if len(m.all) == 0 {
		return nil, fmt.Errorf("no profile that is attached to %s can be used: %w", subject.Digest, first)
	}
	return profile.Merge(m.all, 1)
}

// merge is profiles that can be merged.
type merge struct {
	all           []*profile.Profile
	touches, runs int
}

// add adds the profile whose manifest desc is listed as, unless it is none of the subject, or there would be too much.
func (m *merge) add(ctx context.Context, place artifact.Place, desc, subject ocispec.Descriptor) error {
	p, err := load(ctx, place, desc)
	if err != nil {
		return err
	}
	if p.Subject != subject.Digest.String() {
		return fmt.Errorf("profile %s does not belong to %s", desc.Digest, subject.Digest)
	}
	touches, runs, limit := m.touches+len(p.Disjoint()), m.runs+max(p.Runs, 1), maxTouches
	if len(m.all) == 0 {
		limit = profile.MaxEntries
	}
	if touches > limit || runs > profile.MaxRuns {
		return fmt.Errorf("profile %s: there would be %d entries of %d runs, at most %d of %d can be merged", desc.Digest, touches, runs, limit, profile.MaxRuns)
	}
	m.all, m.touches, m.runs = append(m.all, p), touches, runs
	return nil
}

// OfImage lists the manifests of the profiles of an image, or of the images of an index, up to 1000 of each. What is listed as attached and is no profile, or belongs to another image, is left out, lest it is deleted with
// this one.
func OfImage(ctx context.Context, place artifact.Place, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	images, err := image.All(ctx, place.Target(), desc)
	if err != nil || place.Repository == nil {
		return nil, err
	}
	var all []ocispec.Descriptor
	for _, img := range images {
		list, err := listed(ctx, place, img)
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			ours, err := isProfile(ctx, place, &d, img)
			if err != nil {
				return nil, fmt.Errorf("what is listed as attached to %s: %w", img.Digest, err)
			}
			if ours {
				all = append(all, d)
			}
		}
	}
	return all, nil
}

// isProfile reports whether there is a profile of an image with the digest of d, and completes d.
func isProfile(ctx context.Context, place artifact.Place, d *ocispec.Descriptor, image ocispec.Descriptor) (bool, error) {
	found, err := place.Target().Resolve(ctx, d.Digest.String())
	if errors.Is(err, errdef.ErrNotFound) || err == nil && found.MediaType != ocispec.MediaTypeImageManifest {
		return false, nil
	}
	if err != nil {
		return false, registry.Unresolved(d.Digest.String(), err)
	}
	m, err := manifest(ctx, place, found)
	if err != nil {
		return false, err
	}
	*d = found
	return m.ArtifactType == Type && m.Subject != nil && m.Subject.Digest == image.Digest, nil
}

// Copy brings a profile to another repository, which has its image already.
func Copy(ctx context.Context, from, to artifact.Place, desc ocispec.Descriptor) error {
	if err := oras.CopyGraph(ctx, from.Target(), to.Target(), desc, oras.CopyGraphOptions{}); err != nil {
		return fmt.Errorf("copy profile %s: %w", desc.Digest, registry.Explain(err))
	}
	return nil
}

// listed lists what the registry calls profiles whose subject is the given manifest, each once, in the order of their digests: registries list in any order, and the last profile that knows a file's data decides about it.
func listed(ctx context.Context, place artifact.Place, subject ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var list []ocispec.Descriptor
	err := place.Repository.Referrers(ctx, subject, "", func(found []ocispec.Descriptor) error {
		for _, d := range found {
			// Some registries list an artifact under the type of its config.
			if (d.ArtifactType == Type || d.ArtifactType == MediaTypeConfig) && d.Digest.Validate() == nil && len(list) < maxListed {
				list = append(list, d)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list what is attached to %s: %w", subject.Digest, registry.Explain(err))
	}
	slices.SortFunc(list, func(a, b ocispec.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	return slices.CompactFunc(list, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest }), nil
}
