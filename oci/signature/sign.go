package signature

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/oci/registry"
)

// Sign signs a manifest, which need not be in the repository yet, and returns the manifest with its signatures: those that it had, and one by the key. It has the tag for signatures, which
// cosign looks for, and refers to the signed manifest, so that copies and deletions of that find it. If the key's holder has signed already, nothing changes.
func Sign(ctx context.Context, repo *registry.Repository, signed ocispec.Descriptor, key *PrivateKey) (ocispec.Descriptor, error) {
	desc, err := sign(ctx, repo, signed, key)
	if err != nil {
		return desc, fmt.Errorf("sign %s@%s: %w", repo, signed.Digest, registry.Explain(err))
	}
	return desc, nil
}

func sign(ctx context.Context, repo *registry.Repository, signed ocispec.Descriptor, key *PrivateKey) (desc ocispec.Descriptor, err error) {
	had, err := tagged(ctx, repo, signed)
	if err != nil {
		return desc, err
	}
	var layers []ocispec.Descriptor
	if had != nil {
		for _, layer := range had.Layers {
			if _, err := verifyLayer(ctx, repo, layer, signed, []PublicKey{key.public}); err == nil {
				return had.Descriptor, nil
			}
		}
		layers = had.Layers
	}
	if len(layers) == maxLayers {
		return desc, fmt.Errorf("it has %d signatures already, and more would not count: delete tag %s", maxLayers, Tag(signed.Digest))
	}
	layer, err := pushPayload(ctx, repo, signed, key)
	if err != nil {
		return desc, err
	}
	return pushSignatures(ctx, repo, signed, append(layers, layer))
}

// pushPayload stores what is signed. The layer has the signature, and the payload too: it is short.
func pushPayload(ctx context.Context, repo *registry.Repository, signed ocispec.Descriptor, key *PrivateKey) (ocispec.Descriptor, error) {
	b, err := newPayload(repo.String(), signed.Digest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	sig, err := key.sign(b)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	layer, err := push(ctx, repo, typePayload, b)
	layer.Annotations, layer.Data = map[string]string{annotation: base64.StdEncoding.EncodeToString(sig)}, b
	return layer, err
}

// pushSignatures stores a manifest of signatures, with a config as of an image without a file system: cosign takes it for one.
func pushSignatures(ctx context.Context, repo *registry.Repository, signed ocispec.Descriptor, layers []ocispec.Descriptor) (desc ocispec.Descriptor, err error) {
	config := ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Digest)
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: typeSignatures, Layers: layers,
		Subject: &ocispec.Descriptor{MediaType: signed.MediaType, Digest: signed.Digest, Size: signed.Size},
	}
	b, err := json.Marshal(config)
	if err != nil {
		return desc, err
	}
	if manifest.Config, err = push(ctx, repo, ocispec.MediaTypeImageConfig, b); err != nil {
		return desc, err
	}
	if b, err = json.Marshal(manifest); err != nil {
		return desc, err
	}
	desc = content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, b)
	if err := bounded(desc, maxManifest); err != nil {
		return desc, err
	}
	return desc, repo.PushReference(ctx, desc, bytes.NewReader(b), Tag(signed.Digest))
}

// push stores a blob, unless it is there.
func push(ctx context.Context, repo *registry.Repository, mediaType string, b []byte) (ocispec.Descriptor, error) {
	desc := content.NewDescriptorFromBytes(mediaType, b)
	there, err := repo.Blobs().Exists(ctx, desc)
	if err != nil || there {
		return desc, err
	}
	if err = repo.Blobs().Push(ctx, desc, bytes.NewReader(b)); errors.Is(err, errdef.ErrAlreadyExists) {
		err = nil
	}
	return desc, err
}
