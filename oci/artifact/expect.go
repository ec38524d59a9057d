package artifact

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/oci"
)

// expected is a list of what is attached to an image, asked for while it is not known yet that it will be needed: it saves a round trip of every pull.
type expected struct {
	subject digest.Digest // the image; "" if nothing was asked
	list    []ocispec.Descriptor
	err     error
	cancel  context.CancelFunc
	done    chan struct{} // closed when list and err are final
}

// expect asks for what is attached to what ref names by a digest: if that is an image, the answer is there when it turns out to be one.
func (p Place) expect(ctx context.Context, ref oci.Ref) *expected {
	ctx, cancel := context.WithCancel(ctx)
	e := &expected{cancel: cancel, done: make(chan struct{})}
	if p.Repository == nil || ref.Digest == "" {
		close(e.done)
		return e
	}
	e.subject = ref.Digest
	go func() {
		defer close(e.done)
		e.list, e.err = p.Attached(ctx, ocispec.Descriptor{Digest: ref.Digest})
	}()
	return e
}

// of returns what is attached to an image, which is asked for now if it is another one than was expected.
func (e *expected) of(ctx context.Context, p Place, image ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if e.subject != image.Digest {
		return p.Attached(ctx, image)
	}
	<-e.done
	return e.list, e.err
}

// stop says that the list is not wanted any more.
func (e *expected) stop() {
	e.cancel()
	<-e.done
}
