package backend

import (
	"context"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pagein/pagein/oci/registry"
)

// registryObject is a blob in a registry.
type registryObject struct {
	repo *registry.Repository
	desc ocispec.Descriptor
}

// Registry returns the object with the given digest and size in a repository. It does not connect.
func Registry(repo *registry.Repository, desc ocispec.Descriptor) Object {
	return &registryObject{repo: repo, desc: desc}
}

func (o *registryObject) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := checkRange(o, off, n); err != nil {
		return nil, err
	}
	return o.repo.Range(ctx, o.desc, off, n)
}

func (o *registryObject) Size() int64    { return o.desc.Size }
func (o *registryObject) String() string { return o.repo.String() + "@" + o.desc.Digest.String() }
