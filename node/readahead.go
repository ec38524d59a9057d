package node

import (
	"context"
	"slices"
	"time"

	"github.com/pagein/pagein/internal/kmount"
)

// The kernel reads 128 KiB at a page fault, whatever a profile says of the pages around it. Those that are not hot are not there, and the process that wanted a hot one would wait for them: of what Debian's
// python, gcc and node read at their start, half would be such. So an image with hot data begins with this read-ahead, until its readers turn out to want other data too.
const (
	exactReadAhead = 0        // KiB
	strayed        = 16 << 20 // bytes of other source objects' data that were fetched until then
	strayedEvery   = time.Second
)

// backing is what a superblock of an image reads through.
type backing struct {
	Name   kmount.Backing
	Before int `json:",omitempty"` // its read-ahead in KiB before it was made exact; 0 if that was not done
}

// superblock makes one of the image. The caller holds n.mu.
func (n *Node) superblock(ctx context.Context, img *image) (*kmount.Detached, error) {
	d, err := kmount.Open(ctx, img.spec)
	if err != nil {
		return nil, err
	}
	switch name := d.Backing(); {
	case name != "":
		img.backings = append(img.backings, n.exact(img, name))
	case img.hot() && !img.complete():
		n.log.Warn("the kernel will read more than the profile names", "ref", img.Origin.Ref, "err", "what the mount reads through cannot be told from what others have mounted meanwhile")
	}
	if img.direct = false; n.directly(img) {
		n.madeDirect(img, d.ReadDirectly())
	}
	return d, nil
}

// exact has the kernel read nothing but what is asked for, if the image has hot data.
func (n *Node) exact(img *image, name kmount.Backing) backing {
	b := backing{Name: name}
	if !img.hot() || img.complete() {
		return b
	}
	kib, err := name.ReadAhead()
	if err == nil {
		err = name.SetReadAhead(exactReadAhead)
	}
	if err != nil {
		n.log.Warn("the kernel will read more than the profile names", "ref", img.Origin.Ref, "err", err)
		return b
	}
	b.Before = kib
	return b
}

// hot reports whether a profile says what of the image will be read.
func (img *image) hot() bool {
	return slices.ContainsFunc(img.Blobs, func(b blobRecord) bool { return b.Hot > 0 })
}

// keepReadAhead gives images the kernel's usual read-ahead back once that is of use, and has it read complete ones directly, until ctx is done.
func (n *Node) keepReadAhead(ctx context.Context) {
	tick := time.NewTicker(strayedEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n.mu.Lock()
		for _, img := range n.images {
			if img.exact() && (img.complete() || img.strays() >= strayed) {
				n.usual(img)
			}
			n.readDirectly(img)
		}
		n.mu.Unlock()
	}
}

// exact reports whether the kernel reads nothing of the image but what is asked for.
func (img *image) exact() bool {
	return slices.ContainsFunc(img.backings, func(b backing) bool { return b.Before != 0 })
}

// strays is how many bytes were fetched of blobs that are not hot.
func (img *image) strays() (bytes int64) {
	for i, b := range img.attached.Blobs {
		if img.Blobs[i].Hot == 0 {
			bytes += b.Fetched()
		}
	}
	return bytes
}

// usual gives the read-ahead back. The caller holds n.mu.
func (n *Node) usual(img *image) {
	for i := range img.backings {
		b := &img.backings[i]
		if b.Before == 0 {
			continue
		}
		if err := b.Name.SetReadAhead(b.Before); err != nil {
			n.log.Debug("the kernel's read-ahead is not given back", "ref", img.Origin.Ref, "err", err) // a superblock that is gone has none
		}
		b.Before = 0
	}
	n.saveLater()
}
