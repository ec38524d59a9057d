package node

import (
	"context"

	"github.com/pagein/pagein/ondemand"
)

// prime lets the transport prepare for an image's first mount, if it has to. Without that the image works as well, until the power fails.
func (n *Node) prime(ctx context.Context, img *image) {
	p, ok := img.transport.(interface {
		Prime(context.Context, *ondemand.Image) error
	})
	if !ok {
		return
	}
	if err := p.Prime(ctx, img.attached); err != nil {
		n.log.Warn("a power cut would cost all that is fetched until the image is unmounted", "image", img.ID, "err", err)
	}
}
