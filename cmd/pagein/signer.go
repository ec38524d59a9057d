package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/signature"
)

// passwordEnv is where cosign looks for the password of a key.
const passwordEnv = "COSIGN_PASSWORD" // #nosec G101 -- the name of a variable

// signKey is the option that names the key for what is made.
const signKey = "sign-key"

// signKeyFlag is for commands that make artifacts.
func signKeyFlag() cli.Flag {
	return &cli.PathFlag{Name: signKey, Usage: "sign the artifact with the private key in `FILE` (see pagein sign --help)"}
}

// readKey reads a private key. Without a file it returns nil.
func readKey(file string) (*signature.PrivateKey, error) {
	if file == "" {
		return nil, nil
	}
	return signature.ReadPrivateKey(file, func() ([]byte, error) {
		secret, ok := os.LookupEnv(passwordEnv)
		if !ok {
			return nil, fmt.Errorf("it is encrypted, and %s is not set", passwordEnv)
		}
		return []byte(secret), nil
	})
}

// signer returns what signs a manifest in a place, nil if there is no key.
func signer(place artifact.Place, key *signature.PrivateKey) (func(context.Context, ocispec.Descriptor) error, error) {
	if key == nil {
		return nil, nil
	}
	if place.Repository == nil {
		return nil, errors.New("signatures are kept in registries: what is in a directory is signed once it is in one (pagein copy, pagein sign)")
	}
	return func(ctx context.Context, manifest ocispec.Descriptor) error {
		_, err := signature.Sign(ctx, place.Repository, manifest, key)
		return err
	}, nil
}

// copySignatures brings the signatures of an artifact along, if it is the same in both places. Only registries have signatures.
func copySignatures(ctx context.Context, from, to artifact.Place, a *artifact.Artifact, copied ocispec.Descriptor) error {
	if from.Repository == nil || to.Repository == nil || copied.Digest != a.Descriptor.Digest {
		return nil
	}
	_, err := signature.Copy(ctx, from.Repository, to.Repository, copied)
	return err
}

// addSignatures lists the signatures of an artifact in a registry.
func (r *inspection) addSignatures(ctx context.Context, l *looker, p *peek) error {
	if p.view == nil || p.ref.Kind != oci.Registry {
		return nil
	}
	repo, err := l.client.Repository(p.ref)
	if err != nil {
		return err
	}
	list, err := signature.List(ctx, repo, p.view.Artifact.Descriptor)
	for _, s := range list {
		r.Artifact.Signatures = append(r.Artifact.Signatures, s.Descriptor.Digest.String())
	}
	return err
}

// withSignatures puts before each artifact of a repository the signatures that it has.
func withSignatures(ctx context.Context, repo *registry.Repository, artifacts []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var all []ocispec.Descriptor
	for _, a := range artifacts {
		list, err := signature.List(ctx, repo, a)
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			all = append(all, s.Descriptor)
		}
		all = append(all, a)
	}
	return all, nil
}

// signedBy accepts artifacts in registries that are signed with one of the keys, and tells which.
func signedBy(keys []signature.PublicKey, name *string) artifact.Accept {
	return func(ctx context.Context, c artifact.Candidate) error {
		by, err := signature.Verify(ctx, c.Place.Repository, c.Manifest, keys)
		*name = by.Name
		return err
	}
}
