package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/oci/registry"
)

// Annotate makes a copy of an image, or of an index of images, in which all layers of some manifests have one more annotation, and stores the manifests and indexes that
// this changes, untagged. Config and layers stay as they are. The values are by the digest of the manifest.
func Annotate(ctx context.Context, store content.Storage, desc ocispec.Descriptor, key string, values map[digest.Digest]string) (ocispec.Descriptor, error) {
	a := annotator{store: store, key: key, values: values}
	copied, err := a.copy(ctx, desc, 0)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("annotate the layers of %s: %w", desc.Digest, err)
	}
	return copied, nil
}

type annotator struct {
	store  content.Storage
	key    string
	values map[digest.Digest]string
}

// object is JSON of which unknown fields are kept.
type object map[string]json.RawMessage

// copy returns what stands for desc in the copy, which is desc itself if nothing is annotated below it.
func (a *annotator) copy(ctx context.Context, desc ocispec.Descriptor, depth int) (ocispec.Descriptor, error) {
	value, isAnnotated := a.values[desc.Digest]
	isIndex := desc.MediaType == ocispec.MediaTypeImageIndex || desc.MediaType == dockerIndex
	if !isAnnotated && !isIndex {
		return desc, nil
	}
	if depth == maxDepth {
		return desc, fmt.Errorf("more than %d indexes lie in each other", maxDepth)
	}
	doc := make(object)
	if err := fetchJSON(ctx, a.store, desc, maxManifest, &doc); err != nil {
		return desc, err
	}
	var err error
	if isIndex {
		err = doc.each("manifests", func(entry object) error { return a.copyEntry(ctx, entry, depth) })
	} else {
		err = doc.each("layers", func(layer object) error { return layer.annotate(a.key, value) })
	}
	if err != nil {
		return desc, fmt.Errorf("%s: %w", desc.Digest, err)
	}
	return a.put(ctx, desc, doc)
}

// copyEntry replaces an entry of an index by what stands for it.
func (a *annotator) copyEntry(ctx context.Context, entry object, depth int) error {
	var desc ocispec.Descriptor
	b, err := json.Marshal(entry)
	if err == nil {
		err = json.Unmarshal(b, &desc)
	}
	if err != nil {
		return err
	}
	copied, err := a.copy(ctx, desc, depth+1)
	if err != nil || copied.Digest == desc.Digest {
		return err
	}
	return errors.Join(entry.set("digest", copied.Digest), entry.set("size", copied.Size))
}

// put stores a changed document.
func (a *annotator) put(ctx context.Context, desc ocispec.Descriptor, doc object) (ocispec.Descriptor, error) {
	b, err := json.Marshal(doc)
	if err != nil {
		return desc, err
	}
	if len(b) > maxManifest {
		return desc, fmt.Errorf("%s would have %d bytes with annotations, registries take %d", desc.Digest, len(b), maxManifest)
	}
	changed := content.NewDescriptorFromBytes(desc.MediaType, b)
	there, err := a.store.Exists(ctx, changed)
	if err != nil || there {
		return changed, registry.Explain(err)
	}
	return changed, registry.Explain(a.store.Push(ctx, changed, bytes.NewReader(b)))
}

// each hands the objects of a list to f, which may change them.
func (o object) each(field string, f func(object) error) error {
	var list []object
	if err := json.Unmarshal(o[field], &list); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	for i, entry := range list {
		if err := f(entry); err != nil {
			return fmt.Errorf("%s: %d: %w", field, i, err)
		}
	}
	return o.set(field, list)
}

// annotate adds an annotation to a descriptor.
func (o object) annotate(key, value string) error {
	annotations := make(map[string]string)
	if raw, ok := o["annotations"]; ok {
		if err := json.Unmarshal(raw, &annotations); err != nil {
			return fmt.Errorf("annotations: %w", err)
		}
	}
	annotations[key] = value
	return o.set("annotations", annotations)
}

func (o object) set(field string, v any) (err error) {
	o[field], err = json.Marshal(v)
	return err
}

// AnnotationOf returns an annotation of the first layer of an image, or of the first image of an index that has it; "" if there is none.
func AnnotationOf(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, key string) (value string, err error) {
	err = walk(ctx, src, desc, 0, func(d ocispec.Descriptor) error {
		var m ocispec.Manifest
		if value != "" {
			return nil
		}
		if err := fetchJSON(ctx, src, d, maxManifest, &m); err != nil {
			return err
		}
		if len(m.Layers) > 0 {
			value = m.Layers[0].Annotations[key]
		}
		return nil
	})
	return value, err
}
