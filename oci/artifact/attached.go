package artifact

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/oci/registry"
)

// maxAttached bounds how many artifacts of one image are listed.
const maxAttached = 100

// Attached lists what the registry calls artifacts whose subject is the given manifest, the newest first as far as the registry can be believed: the last 100 that it names. In a
// layout there are none: what is in a layout has a tag.
func (p Place) Attached(ctx context.Context, subject ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if p.Repository == nil {
		return nil, nil
	}
	var list []ocispec.Descriptor
	// Some registries list an artifact under the type of its config, so the list is not filtered by them.
	err := p.Repository.Referrers(ctx, subject, "", func(found []ocispec.Descriptor) error {
		for _, d := range found {
			if d.ArtifactType != Type && d.ArtifactType != MediaTypeConfig {
				continue
			}
			if list = append(list, d); len(list) > maxAttached {
				list = list[1:]
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list what is attached to %s@%s: %w", p.Repository, subject.Digest, registry.Explain(err))
	}
	sortNewest(list)
	return list, nil
}
