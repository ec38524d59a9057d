package artifact

import (
	"context"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Attachment is storage besides the target that source objects are put into, so that nodes read them there.
type Attachment interface {
	// Attach stores a source object, unless it is there already, and returns the URLs that nodes find it at, the preferred ones first, and how many bytes were sent.
	Attach(ctx context.Context, desc ocispec.Descriptor, r io.ReaderAt) (urls []string, sent int64, err error)
}

// addObject stores a source object where those go, and lists it.
func (p *pusher) addObject(ctx context.Context, desc ocispec.Descriptor, r io.ReaderAt) error {
	if p.attached != nil {
		if err := p.attach(ctx, desc, r); err != nil {
			return err
		}
	}
	if !p.keep {
		return nil
	}
	return p.add(ctx, desc, io.NewSectionReader(r, 0, desc.Size))
}

// attach stores a source object in the attached storage.
func (p *pusher) attach(ctx context.Context, desc ocispec.Descriptor, r io.ReaderAt) error {
	urls, sent, err := p.attached.Attach(ctx, desc, r)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	if !p.keep {
		p.done.Stored += desc.Size
		p.progress.reach(p.progress.done + desc.Size)
	}
	p.done.Attached += sent
	desc.URLs = urls
	p.listObject(desc)
	return nil
}

// listObject puts a source object that other places have into the config, once.
func (p *pusher) listObject(desc ocispec.Descriptor) {
	if len(desc.URLs) == 0 {
		return
	}
	for _, o := range p.objects {
		if o.Digest == desc.Digest {
			return
		}
	}
	p.objects = append(p.objects, ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, URLs: desc.URLs})
}
