package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/ondemand"
)

// rememberAbsent notes what was mounted when the machine went down. The caller holds n.mu.
func (n *Node) rememberAbsent(images []imageState) {
	if !n.cfg.RestoreMounts {
		n.log.Info("the machine has been restarted: earlier mounts are forgotten", "images", len(images))
		return
	}
	n.log.Info("the machine has been restarted: what was mounted is mounted again", "images", len(images))
	for _, i := range images {
		i.Watches, i.Absent = nil, true
		n.absent = append(n.absent, i)
	}
}

// restore mounts again what was mounted when the machine went down, from what is in the store: nobody is asked for anything before somebody reads what is not there.
// What is left when ctx is done stays in the mount table, for a successor.
func (n *Node) restore(ctx context.Context) {
	for ctx.Err() == nil && n.restoreNext(ctx) {
	}
}

// restoreNext restores one image and reports whether there are more.
func (n *Node) restoreNext(ctx context.Context) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || len(n.absent) == 0 {
		return false
	}
	i := n.absent[0]
	err := n.restoreImage(ctx, i)
	if ctx.Err() != nil {
		return false
	}
	n.absent = n.absent[1:]
	if err != nil {
		n.log.Error("image is not mounted again where it was before the machine was restarted", "ref", i.Origin.Ref, "targets", i.Targets, "err", err)
	} else {
		n.log.Info("mounted again", "ref", i.Origin.Ref, "targets", i.Targets)
	}
	n.saveLater()
	return true
}

// restoreImage attaches an image and mounts it at its targets, as far as a predecessor has not done so already. The caller holds n.mu.
func (n *Node) restoreImage(ctx context.Context, i imageState) error {
	img := n.images[i.ID]
	if img == nil {
		tr, err := n.restoreTransport(i)
		if err != nil {
			return err
		}
		_, err = n.store.Meta(ctx, i.ID, func(context.Context, io.Writer) error {
			return errors.New("it is not in the store, or damaged there: mount the image again")
		})
		if err != nil {
			return fmt.Errorf("metadata image %s: %w", i.ID, err)
		}
		if err := n.compatible(i.record, tr); err != nil {
			return err
		}
		if img, err = n.attach(ctx, i.record, tr); err != nil {
			return err
		}
	}
	img.prepared = img.prepared || i.Prepared
	var errs error
	for _, target := range i.Targets {
		if top, ok, err := kmount.Lookup(target); err != nil || ok && img.is(top) {
			errs = errors.Join(errs, err)
			continue
		}
		errs = errors.Join(errs, n.mountOn(ctx, img, target))
	}
	if len(img.watches) == 0 && !img.prepared {
		n.detach(context.WithoutCancel(ctx), img)
	}
	return errs
}

// restoreTransport is the one that the image had, or else, under another kernel, the one that it gets there.
func (n *Node) restoreTransport(i imageState) (ondemand.Transport, error) {
	tr, err := n.transports.get(i.Transport)
	if err == nil {
		return tr, nil
	}
	n.log.Warn("image gets another transport", "ref", i.Origin.Ref, "err", err)
	return n.transportFor(i.record, "")
}

// forgetAbsent has target not mounted again, and reports whether it would have been. The caller holds n.mu.
func (n *Node) forgetAbsent(target string) bool {
	for i := range n.absent {
		if slices.Contains(n.absent[i].Targets, target) {
			n.absent[i].Targets = without(n.absent[i].Targets, target)
			return true
		}
	}
	return false
}
