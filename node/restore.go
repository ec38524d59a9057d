package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/ondemand"
)

// restoreAgain is how often it is tried to mount what could not be mounted again: its directory may be on a disk that comes up late.
const restoreAgain = 5 * time.Second

// rememberAbsent notes what was mounted when the machine went down, unless that is to be forgotten. The caller holds n.mu.
func (n *Node) rememberAbsent(images []imageState) {
	if !n.cfg.RestoreMounts {
		return
	}
	for _, i := range images {
		i.Watches, i.Backings, i.Absent = nil, nil, true
		// An image that had been mounted again at some of its targets only is in the table twice.
		if at := n.absentAt(i.ID); at >= 0 {
			known := &n.absent[at]
			known.Targets = append(known.Targets, i.Targets...)
			known.Prepared = known.Prepared || i.Prepared
		} else {
			n.absent = append(n.absent, i)
		}
	}
}

// absentAt is the index in n.absent of the image with that ID, or -1. The caller holds n.mu.
func (n *Node) absentAt(id string) int {
	return slices.IndexFunc(n.absent, func(i imageState) bool { return i.ID == id })
}

// keepRestoring mounts again what was mounted when the machine went down, and says so by closing n.settled when each was tried once. What could not be mounted is tried again until ctx
// is done; then it stays in the mount table, for a successor.
func (n *Node) keepRestoring(ctx context.Context) {
	n.restore(ctx)
	close(n.settled)
	again := time.NewTicker(restoreAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			n.restore(ctx)
		}
	}
}

// restore tries each absent image once, from what is in the store: nobody is asked for anything before somebody reads what is not there.
func (n *Node) restore(ctx context.Context) {
	n.mu.Lock()
	var ids []string
	for _, i := range n.absent {
		ids = append(ids, i.ID)
	}
	n.mu.Unlock()
	for _, id := range ids {
		if ctx.Err() != nil {
			return
		}
		n.restoreAbsent(ctx, id)
	}
}

// restoreAbsent restores one image, if it is still absent.
func (n *Node) restoreAbsent(ctx context.Context, id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := n.absentAt(id)
	if n.closed || at < 0 {
		return
	}
	i := n.absent[at]
	left, err := n.restoreImage(ctx, i)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		n.absent = slices.Delete(n.absent, at, at+1)
		n.log.Info("mounted again", "ref", i.Origin.Ref, "targets", i.Targets)
		n.saveLater()
		return
	}
	if i.problem == nil || i.problem.Error() != err.Error() {
		n.log.Error("image is not mounted again where it was before the machine was restarted; it is tried again", "ref", i.Origin.Ref, "targets", left, "err", err)
	}
	n.absent[at].Targets, n.absent[at].problem = left, err
	if len(left) != len(i.Targets) {
		n.saveLater()
	}
}

// restoreImage attaches an image and mounts it at its targets, as far as that has not been done already, and returns those at which it is not mounted then. The caller holds n.mu.
func (n *Node) restoreImage(ctx context.Context, i imageState) (left []string, err error) {
	var errs error
	var ready []string // to be mounted on
	for _, target := range i.Targets {
		if info, err := os.Stat(target); err != nil {
			left, errs = append(left, target), errors.Join(errs, err)
		} else if !info.IsDir() {
			left, errs = append(left, target), errors.Join(errs, fmt.Errorf("%s is not a directory", target))
		} else {
			ready = append(ready, target)
		}
	}
	if len(ready) == 0 && !i.Prepared {
		return left, errs
	}
	img, err := n.attachAgain(ctx, i)
	if err != nil {
		return i.Targets, err
	}
	img.prepared = img.prepared || i.Prepared
	for _, target := range ready {
		top, mounted, err := kmount.Lookup(target)
		if err == nil && !(mounted && img.is(top)) {
			err = n.mountOn(ctx, img, target)
		}
		if err != nil {
			left, errs = append(left, target), errors.Join(errs, err)
		}
	}
	if len(img.watches) == 0 && !img.prepared {
		n.detach(context.WithoutCancel(ctx), img)
	}
	return left, errs
}

// attachAgain returns the image, attaching it from what is in the store if it is not attached. The caller holds n.mu.
func (n *Node) attachAgain(ctx context.Context, i imageState) (*image, error) {
	if img := n.images[i.ID]; img != nil {
		return img, nil
	}
	tr, err := n.restoreTransport(i)
	if err != nil {
		return nil, err
	}
	_, err = n.store.Meta(ctx, i.ID, func(context.Context, io.Writer) error {
		return errors.New("it is not in the store, or damaged there: mount the image again")
	})
	if err != nil {
		return nil, fmt.Errorf("metadata image %s: %w", i.ID, err)
	}
	if err := n.compatible(i.record, tr); err != nil {
		return nil, err
	}
	return n.attach(ctx, i.record, tr)
}

// restoreTransport is the one that the image had, or else, under another kernel, the one that it gets there.
func (n *Node) restoreTransport(i imageState) (ondemand.Transport, error) {
	tr, err := n.transports.get(i.Transport)
	if err == nil {
		return tr, nil
	}
	other, otherErr := n.transportFor(i.record, "")
	if otherErr != nil {
		return nil, otherErr
	}
	n.log.Warn("image gets another transport", "ref", i.Origin.Ref, "transport", other.Name(), "err", err)
	return other, nil
}

// forgetAbsent has target not mounted again, and reports whether it would have been. The caller holds n.mu.
func (n *Node) forgetAbsent(target string) bool {
	for at, i := range n.absent {
		if !slices.Contains(i.Targets, target) {
			continue
		}
		if left := without(i.Targets, target); len(left) > 0 || i.Prepared {
			n.absent[at].Targets = left
		} else {
			n.absent = slices.Delete(n.absent, at, at+1)
		}
		return true
	}
	return false
}
