package signature

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"

	"github.com/pagein/pagein/oci/registry"
)

// Copy brings the signatures of a manifest to another repository, which has the manifest already. It verifies none. How many manifests of signatures there are is returned.
func Copy(ctx context.Context, from, to *registry.Repository, signed ocispec.Descriptor) (int, error) {
	list, err := List(ctx, from, signed)
	if err != nil {
		return 0, err
	}
	for _, m := range list {
		err := oras.CopyGraph(ctx, from, to, m.Descriptor, oras.CopyGraphOptions{})
		if err == nil && m.Tagged {
			err = to.Tag(ctx, m.Descriptor, Tag(signed.Digest))
		}
		if err != nil {
			return 0, fmt.Errorf("copy signatures %s of %s@%s to %s: %w", m.Descriptor.Digest, from, signed.Digest, to, registry.Explain(err))
		}
	}
	return len(list), nil
}
