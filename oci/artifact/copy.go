package artifact

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/internal/atomicfile"
	"github.com/pagein/pagein/oci/registry"
)

// CopyOptions say what becomes of an artifact's data when it is copied. With the zero value what is beside the artifact comes along, and what is elsewhere stays there.
type CopyOptions struct {
	Attached Attachment // where source objects go, instead of the places that they name, or nil
	Keep     bool       // source objects go to the target, also those that were only elsewhere
	TempDir  string     // for one object at a time, "" means the system's directory

	// Open opens a source object at one of the places that have it. It is needed with Attached or Keep. What it yields is verified.
	Open func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	// Progress is as in [Contents].
	Progress func(done, total int64)
}

// Copy brings an artifact, which was loaded from a place, to a target, untagged. If its data stays where it is, relative to the artifact or to the world, the manifest is the same;
// else another one, with the same metadata image and the same blobs. Registries take over what another of their repositories has.
func Copy(ctx context.Context, a *Artifact, from Place, dst content.Storage, o CopyOptions) (Pushed, error) {
	c := &copier{
		a: a, from: from, o: o,
		pusher: pusher{dst: dst, attached: o.Attached, keep: o.Keep || o.Attached == nil, layers: make(map[digest.Digest]bool), progress: progress{report: o.Progress}},
	}
	if err := c.copy(ctx); err != nil {
		return Pushed{}, fmt.Errorf("copy %s: %w", a.Name, registry.Explain(err))
	}
	return c.done, nil
}

type copier struct {
	pusher
	a    *Artifact
	from Place
	o    CopyOptions
}

func (c *copier) copy(ctx context.Context) error {
	raw, err := fetchAll(ctx, c.from.Target(), c.a.Descriptor)
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	config, err := fetchAll(ctx, c.from.Target(), m.Config)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	moved := c.moved()
	for _, desc := range moved {
		c.progress.total += desc.Size
	}
	for _, desc := range m.Layers {
		if _, ok := moved[desc.Digest]; !ok {
			c.progress.total += desc.Size
		}
	}
	for _, desc := range m.Layers {
		if _, ok := moved[desc.Digest]; ok {
			continue
		}
		c.list(desc)
		if err := c.bring(ctx, plain(desc), c.from); err != nil {
			return fmt.Errorf("layer %s: %w", desc.Digest, err)
		}
	}
	if len(moved) > 0 {
		if err := c.move(ctx, moved); err != nil {
			return err
		}
		if config, err = c.renew(config); err != nil {
			return fmt.Errorf("config: %w", err)
		}
		m.Config = content.NewDescriptorFromBytes(MediaTypeConfig, config)
		m.Layers = c.manifest.Layers
		if raw, err = json.Marshal(m); err != nil {
			return fmt.Errorf("manifest: %w", err)
		}
	}
	return c.finish(ctx, m, config, raw)
}

// plain is a layer without what does not identify it.
func plain(desc ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
}

// moved are the source objects that come to lie elsewhere.
func (c *copier) moved() map[digest.Digest]ocispec.Descriptor {
	moved := make(map[digest.Digest]ocispec.Descriptor)
	for _, b := range c.a.Blobs {
		for i, src := range b.Sources {
			if c.attached != nil || c.o.Keep && b.Away(i) {
				moved[src.Digest] = src
			}
		}
	}
	return moved
}

// move brings source objects where they come to lie, in the order of the blobs.
func (c *copier) move(ctx context.Context, moved map[digest.Digest]ocispec.Descriptor) error {
	for _, b := range c.a.Blobs {
		for _, src := range b.Sources {
			if _, ok := moved[src.Digest]; !ok {
				if len(src.URLs) > 0 {
					c.listObject(src)
				}
				continue
			}
			delete(moved, src.Digest)
			if err := c.moveObject(ctx, src); err != nil {
				return fmt.Errorf("object %s: %w", src.Digest, err)
			}
		}
	}
	return nil
}

// moveObject spools an object, so that nothing unverified gets a good name anywhere.
func (c *copier) moveObject(ctx context.Context, src ocispec.Descriptor) error {
	f, err := c.spool(ctx, src)
	if err != nil {
		return err
	}
	defer f.Close()        // a file without a name
	if c.attached == nil { // it goes to the target, and may be read where it was as well
		c.listObject(src)
	}
	return c.addObject(ctx, plain(src), f)
}

func (c *copier) spool(ctx context.Context, src ocispec.Descriptor) (f *os.File, err error) {
	if f, err = atomicfile.Temp(c.o.TempDir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	r, err := c.o.Open(ctx, src)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	verified := content.NewVerifyReader(r, src)
	if _, err := io.Copy(f, verified); err != nil {
		return nil, err
	}
	return f, verified.Verify()
}

// renew makes a config that says where objects are now, and leaves all else as it is.
func (c *copier) renew(config []byte) ([]byte, error) {
	fields := make(map[string]json.RawMessage)
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, err
	}
	delete(fields, "objects")
	if len(c.objects) > 0 {
		if err := checkObjects(c.objects); err != nil {
			return nil, err
		}
		var err error
		if fields["objects"], err = json.Marshal(c.objects); err != nil {
			return nil, err
		}
	}
	return json.Marshal(fields)
}

// finish stores config and manifest.
func (c *copier) finish(ctx context.Context, m ocispec.Manifest, config, raw []byte) error {
	c.progress.total += int64(len(config) + len(raw))
	if err := c.store(ctx, m.Config, bytes.NewReader(config)); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	desc := content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, raw)
	if err := c.store(ctx, desc, bytes.NewReader(raw)); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	desc.ArtifactType = Type
	c.done.Descriptor = desc
	return nil
}
