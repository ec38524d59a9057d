package artifact

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// AnnotationGeneration of a manifest says how many artifacts of the same image it came after, as a decimal number. It is in the manifest, so that a signature covers it, and registries
// repeat it where they list what refers to the image.
const AnnotationGeneration = "io.pagein.generation"

// maxGeneration bounds generations. Who is that far gives up the order, not the artifact.
const maxGeneration = 1<<31 - 1

// Predecessor is an artifact that another one is to take the place of.
type Predecessor struct {
	Digest     digest.Digest
	Generation int
}

// generation reads annotations. What is no number up to maxGeneration is 0, as is none.
func generation(annotations map[string]string) int {
	n, err := strconv.ParseUint(annotations[AnnotationGeneration], 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

// annotate writes a generation. The first one is not written: most images have one artifact.
func annotate(generation int) map[string]string {
	if generation == 0 {
		return nil
	}
	return map[string]string{AnnotationGeneration: strconv.Itoa(generation)}
}

// sortNewest puts later generations first. The order does not depend on that of the registry, which anybody who may push decides: equals are told apart by their digests.
func sortNewest(list []ocispec.Descriptor) {
	slices.SortStableFunc(list, func(a, b ocispec.Descriptor) int {
		return cmp.Or(cmp.Compare(generation(b.Annotations), generation(a.Annotations)), cmp.Compare(b.Digest, a.Digest))
	})
}
