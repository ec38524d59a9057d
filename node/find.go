package node

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	ociimage "github.com/pagein/pagein/oci/image"
	"github.com/pagein/pagein/oci/registry"
)

// Found is an artifact that can be mounted here.
type Found struct {
	Artifact string          // reference by digest
	Image    string          // reference by digest of the image that it stands for, "" if it was made from no image
	Subject  digest.Digest   // that image's manifest, or ""
	Chains   []digest.Digest // chain IDs of that image's layers, bottom first
	MetaSize int64           // bytes of the metadata image
}

// Find finds the artifact in a registry that ref names, or that is attached to the image that ref names, has all in the store that its mount needs, and makes sure that
// there is a transport for it. Artifacts that are not accepted are left alone.
func (n *Node) Find(ctx context.Context, ref oci.Ref, accept artifact.Accept) (*Found, error) {
	if ref.Kind != oci.Registry {
		return nil, control.Errorf(control.Invalid, "find an artifact for %s: it names no registry", ref)
	}
	available := make(chan error, 1) // a transport takes a while to open, like the registry to answer
	go func() {
		_, err := n.transports.choose(n.cfg.Transport)
		available <- err
	}()
	r, a, err := n.loadArtifact(ctx, origin{Ref: ref.String()}, accept)
	unavailable := <-available
	if err != nil {
		return nil, err
	}
	defer n.unpin(r)
	if unavailable != nil {
		return nil, control.Errorf(control.Unavailable, "mount %s: %w", ref, unavailable)
	}
	at := oci.Ref{Kind: ref.Kind, Host: ref.Host, Repository: ref.Repository, Digest: a.Descriptor.Digest}
	n.recent.add(origin{Ref: at.String()}, a)
	f := &Found{Artifact: at.String(), Chains: slices.Clone(a.Chains), MetaSize: a.MetaSize}
	if a.Subject != nil {
		f.Subject, at.Digest = a.Subject.Digest, a.Subject.Digest
		f.Image = at.String()
	}
	return f, nil
}

// Layer opens the layer with the given chain ID of an image that ref names by the digest of its manifest, as it is in the registry but no longer than the manifest says, and returns its diff
// ID. The caller closes the layer and verifies what it reads.
func (n *Node) Layer(ctx context.Context, ref oci.Ref, chain digest.Digest) (io.ReadCloser, digest.Digest, error) {
	client, err := n.remotes.client(origin{Ref: ref.String()})
	if err != nil {
		return nil, "", err
	}
	repo, err := client.Repository(ref)
	if err != nil {
		return nil, "", err
	}
	desc, err := repo.Resolve(ctx, ref.Reference())
	if err != nil {
		return nil, "", registry.Unresolved(ref.String(), err)
	}
	img, err := ociimage.Load(ctx, repo, desc, nil)
	if err != nil {
		return nil, "", err
	}
	i := slices.Index(img.ChainIDs(), chain)
	if i < 0 {
		return nil, "", fmt.Errorf("%s has no layer with chain ID %s", ref, chain)
	}
	layer, err := repo.Fetch(ctx, img.Layers[i])
	if err != nil {
		return nil, "", fmt.Errorf("fetch layer %d of %s: %w", i+1, ref, registry.Explain(err))
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(layer, img.Layers[i].Size), layer}, img.DiffIDs[i], nil
}
