package artifact

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxURLs bounds the places that a source object may name.
	maxURLs = 16
	// maxURL bounds each of them, in bytes.
	maxURL = 4096
)

// checkObjects refuses lists of objects that cannot be meant.
func checkObjects(objects []ocispec.Descriptor) error {
	seen := make(map[digest.Digest]bool, len(objects))
	for i, o := range objects {
		if err := o.Digest.Validate(); err != nil {
			return fmt.Errorf("object %d: digest %q: %w", i, o.Digest, err)
		}
		switch {
		case seen[o.Digest]:
			return fmt.Errorf("object %d: digest %s occurs twice", i, o.Digest)
		case o.MediaType != MediaTypeObject:
			return fmt.Errorf("object %d is of type %q, want %q", i, o.MediaType, MediaTypeObject)
		case o.Size <= 0:
			return fmt.Errorf("object %d: size is %d", i, o.Size)
		case len(o.URLs) == 0:
			return fmt.Errorf("object %d: no place that has it is named", i)
		}
		if err := checkURLs(o.URLs); err != nil {
			return fmt.Errorf("object %d: %w", i, err)
		}
		seen[o.Digest] = true
	}
	return nil
}

// checkURLs bounds what a node remembers. What the URLs mean is for those to judge who read from them.
func checkURLs(urls []string) error {
	if len(urls) > maxURLs {
		return fmt.Errorf("%d URLs, at most %d are possible", len(urls), maxURLs)
	}
	for _, u := range urls {
		if len(u) > maxURL || strings.ContainsFunc(u, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return fmt.Errorf("URL %.100q has more than %d bytes, or characters that no URL has", u, maxURL)
		}
	}
	return nil
}

// objects gives access to a config's objects by digest.
type objects map[digest.Digest]ocispec.Descriptor

func newObjects(descs []ocispec.Descriptor) objects {
	all := make(objects, len(descs))
	for _, o := range descs {
		all[o.Digest] = o
	}
	return all
}

// source finds a source object: among the layers, among the config's objects, or in both.
func (all objects) source(l layers, d digest.Digest) (desc ocispec.Descriptor, away bool, err error) {
	object, named := all[d]
	if !named {
		desc, err = l.find(d, MediaTypeObject)
		if err == nil {
			err = checkURLs(desc.URLs)
		}
		return desc, false, err
	}
	layer, here := l[d]
	if here && (layer.Size != object.Size || layer.MediaType != object.MediaType) {
		return desc, false, fmt.Errorf("the config says that object %s is of type %q and %d bytes, the manifest %q and %d", d, object.MediaType, object.Size, layer.MediaType, layer.Size)
	}
	return object, !here, nil
}

// Away reports whether source object i is no layer of the artifact: only the places that its URLs name have it.
func (b *Blob) Away(i int) bool { return b.away[b.Sources[i].Digest] }
