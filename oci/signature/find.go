package signature

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/oci/registry"
)

// Listed is a manifest with signatures, none of which has been verified.
type Listed struct {
	Descriptor ocispec.Descriptor
	Tagged     bool // it has the tag for signatures, and need not refer to what it signs
}

// List lists the manifests with signatures of a manifest, each once: the one with the tag, if there is one, and the last 16 that refer to it. The tag and, in some registries, the list of
// what refers to a manifest are whatever somebody pushed: what has anything but signatures, or refers to another manifest, is left out, lest it is deleted with this one.
func List(ctx context.Context, repo *registry.Repository, signed ocispec.Descriptor) ([]Listed, error) {
	var list []Listed
	tag, err := tagged(ctx, repo, signed)
	if err != nil {
		return nil, err
	}
	if tag != nil && tag.only() && (tag.Subject == nil || tag.Subject.Digest == signed.Digest) {
		list = append(list, Listed{tag.Descriptor, true})
	}
	found, err := referrers(ctx, repo, signed)
	if err != nil {
		return nil, err
	}
	for _, d := range found {
		if tag != nil && d.Digest == tag.Descriptor.Digest {
			continue
		}
		s, err := referring(ctx, repo, d)
		if errors.Is(err, errdef.ErrNotFound) {
			continue // it is gone, and the list does not say so
		}
		if err != nil {
			return nil, err
		}
		if s.only() && s.Subject != nil && s.Subject.Digest == signed.Digest {
			list = append(list, Listed{Descriptor: s.Descriptor})
		}
	}
	return list, nil
}

// referrers lists the signatures and bundles that refer to a manifest.
func referrers(ctx context.Context, repo *registry.Repository, signed ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var list []ocispec.Descriptor
	err := repo.Referrers(ctx, signed, "", func(found []ocispec.Descriptor) error {
		for _, d := range found {
			if d.ArtifactType != typeSignatures && d.ArtifactType != typeBundle {
				continue
			}
			if list = append(list, d); len(list) > maxReferrers {
				list = list[1:]
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list what refers to %s@%s: %w", repo, signed.Digest, registry.Explain(err))
	}
	return list, nil
}

// signatures is a manifest with signatures.
type signatures struct {
	Descriptor ocispec.Descriptor
	Layers     []ocispec.Descriptor
	Subject    *ocispec.Descriptor // what it says that it refers to, or nil
}

// only reports whether a manifest has signatures, and nothing else.
func (s *signatures) only() bool {
	return len(s.Layers) > 0 && !slices.ContainsFunc(s.Layers, func(l ocispec.Descriptor) bool { return l.MediaType != typePayload && l.MediaType != typeBundle })
}

// tagged fetches the manifest with the tag for signatures of another one, nil if there is none.
func tagged(ctx context.Context, repo *registry.Repository, signed ocispec.Descriptor) (*signatures, error) {
	desc, body, err := repo.FetchReference(ctx, Tag(signed.Digest))
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("fetch the signatures of %s@%s: %w", repo, signed.Digest, registry.Explain(err))
	}
	return parse(desc, body)
}

// referring fetches a manifest that refers to another one.
func referring(ctx context.Context, repo *registry.Repository, desc ocispec.Descriptor) (*signatures, error) {
	if err := bounded(desc, maxManifest); err != nil { // before anything is opened
		return nil, err
	}
	body, err := repo.Fetch(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("fetch signatures %s@%s: %w", repo, desc.Digest, registry.Explain(err))
	}
	return parse(desc, body)
}

// parse reads a manifest and closes it.
func parse(desc ocispec.Descriptor, body io.ReadCloser) (*signatures, error) {
	b, err := readAll(body, desc, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("read signatures: %w", err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("read signatures %s: %w", desc.Digest, err)
	}
	return &signatures{Descriptor: desc, Layers: m.Layers[:min(len(m.Layers), maxLayers)], Subject: m.Subject}, nil
}

// fetch reads a layer.
func fetch(ctx context.Context, repo *registry.Repository, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := bounded(desc, limit); err != nil {
		return nil, err
	}
	if len(desc.Data) > 0 && int64(len(desc.Data)) == desc.Size && desc.Digest.Validate() == nil && desc.Digest.Algorithm().FromBytes(desc.Data) == desc.Digest {
		return slices.Clone(desc.Data), nil // it is in the manifest, which saves a round trip
	}
	body, err := repo.Blobs().Fetch(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", desc.Digest, registry.Explain(err))
	}
	return readAll(body, desc, limit)
}

// readAll reads and verifies what desc describes, and closes it.
func readAll(r io.ReadCloser, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := bounded(desc, limit); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	b, err := content.ReadAll(r, desc)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	return b, nil
}

func bounded(desc ocispec.Descriptor, limit int64) error {
	if desc.Size < 0 || desc.Size > limit {
		return fmt.Errorf("%s has %d bytes, at most %d are allowed", desc.Digest, desc.Size, limit)
	}
	return nil
}
