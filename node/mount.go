package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand"
)

const (
	// mountTimeout bounds one mount(2). Over fscache the kernel waits for the metadata image to be copied into its cache.
	mountTimeout = 2 * time.Minute
	// dropTimeout is how long an unmount waits for the superblock to go, which it does at once unless something else uses it.
	dropTimeout = time.Second
)

// Mount attaches the image that a reference names and mounts it. A second mount of the same image is a bind mount of the first.
func (n *Node) Mount(ctx context.Context, req control.MountRequest) (control.MountResponse, error) {
	target, err := filepath.EvalSymlinks(req.Target)
	if err != nil {
		return control.MountResponse{}, control.Errorf(control.Invalid, "mount %s: %w", req.Ref, err)
	}
	if !filepath.IsAbs(target) {
		return control.MountResponse{}, control.Errorf(control.Invalid, "mount %s: %s is no absolute path", req.Ref, req.Target)
	}
	r, err := n.resolve(ctx, req.Source, req.Transport)
	if err != nil {
		return control.MountResponse{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, other := range n.images {
		if slices.Contains(other.targets, target) {
			if info, mounted, err := kmount.Lookup(target); err == nil && mounted && info.Type == "erofs" {
				return control.MountResponse{}, control.Errorf(control.AlreadyExists, "mount %s: %s is already mounted on %s", req.Ref, other.Origin.Ref, target)
			}
			other.targets = without(other.targets, target) // unmounted behind our back
		}
	}
	img, err := n.attached(ctx, r, req.Transport)
	if err != nil {
		return control.MountResponse{}, err
	}
	if err := n.mountOn(ctx, img, target); err != nil {
		if img.watch == 0 && !img.prepared {
			n.detach(context.WithoutCancel(ctx), img)
		}
		return control.MountResponse{}, err
	}
	if err := n.save(); err != nil {
		return control.MountResponse{}, err
	}
	n.log.Info("mounted", "ref", req.Ref, "target", target, "transport", img.transport.Name(), "image", img.ID)
	return control.MountResponse{ID: img.ID, Target: target, Transport: img.transport.Name()}, nil
}

// resolve checks a request and loads the image that it names.
func (n *Node) resolve(ctx context.Context, src control.Source, transport string) (record, error) {
	if names := n.transports.names(); transport != "" && !slices.Contains(names, transport) {
		return record{}, control.Errorf(control.Invalid, "mount %s: there is no transport %q: choose one of %v", src.Ref, transport, names)
	}
	return n.load(ctx, origin{Ref: src.Ref, PlainHTTP: src.PlainHTTP, Insecure: src.Insecure})
}

// attached returns the image, attaching it if it is not. The caller holds n.mu.
func (n *Node) attached(ctx context.Context, r record, transport string) (*image, error) {
	if img := n.images[r.ID]; img != nil {
		if transport != "" && transport != Auto && transport != img.transport.Name() {
			return nil, control.Errorf(control.AlreadyExists, "mount %s: the image is attached through transport %s: unmount it first, or leave the choice to pageind",
				r.Origin.Ref, img.transport.Name())
		}
		return img, nil
	}
	if transport == "" {
		transport = n.cfg.Transport
	}
	tr, err := n.transports.choose(transport)
	if err != nil {
		return nil, control.Errorf(control.Unavailable, "mount %s: %w", r.Origin.Ref, err)
	}
	if err := n.compatible(r, tr); err != nil {
		return nil, err
	}
	return n.attach(ctx, r, tr)
}

// compatible refuses to serve one blob through two transports at a time: each believes that it alone fills the blob.
func (n *Node) compatible(r record, tr ondemand.Transport) error {
	for _, img := range n.images {
		if img.transport == tr {
			continue
		}
		for _, b := range r.Blobs {
			if slices.ContainsFunc(img.Blobs, func(o blobRecord) bool { return o.ID == b.ID }) {
				return control.Errorf(control.AlreadyExists, "mount %s through %s: it shares blob %s with %s, which is attached through %s", r.Origin.Ref, tr.Name(),
					b.ID, img.Origin.Ref, img.transport.Name())
			}
		}
	}
	return nil
}

// mountOn makes the image appear at target. The caller holds n.mu.
func (n *Node) mountOn(ctx context.Context, img *image, target string) error {
	ctx, cancel := context.WithTimeout(ctx, mountTimeout)
	defer cancel()
	elsewhere, err := img.mounts()
	if err != nil {
		return err
	}
	if len(elsewhere) > 0 {
		err = kmount.Bind(ctx, elsewhere[0], target)
	} else {
		err = kmount.Mount(ctx, img.spec, target)
	}
	if errors.Is(err, unix.EEXIST) {
		err = fmt.Errorf("%w: the image is mounted in another mount namespace, where it cannot be bound from", err)
	}
	if err != nil {
		return err
	}
	wd, err := n.watch.add(target)
	if err != nil {
		return errors.Join(err, kmount.Unmount(target, unix.MNT_DETACH))
	}
	img.watch = wd
	img.targets = append(img.targets, target)
	return nil
}

// Unmount takes the mount off target. The image is forgotten when nothing else uses it.
func (n *Node) Unmount(ctx context.Context, target string) error {
	if resolved, err := filepath.EvalSymlinks(target); err == nil {
		target = resolved
	}
	img, err := n.unmount(target)
	if err != nil {
		return err
	}
	// Who unmounts wants to find it unmounted; who keeps it busy elsewhere must not block him.
	select {
	case <-img.dropped:
	case <-time.After(dropTimeout):
	case <-ctx.Done():
	}
	return nil
}

func (n *Node) unmount(target string) (*image, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, img := range n.images {
		if !slices.Contains(img.targets, target) {
			continue
		}
		err := kmount.Unmount(target, 0)
		if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: nothing is mounted there any more
			if errors.Is(err, unix.EBUSY) {
				err = fmt.Errorf("%w: close what is open below it, or leave it (fuser -vm %s tells who)", err, target)
			}
			return nil, err
		}
		img.targets = without(img.targets, target)
		n.log.Info("unmounted", "ref", img.Origin.Ref, "target", target)
		if len(img.targets) > 0 {
			released := make(chan struct{})
			close(released)
			return &image{dropped: released}, n.save()
		}
		return img, n.save()
	}
	return nil, control.Errorf(control.NotFound, "unmount %s: pageind has mounted nothing there: see pagein status", target)
}

// unmountAll unmounts what is not in use. What is stays, for the holder to keep.
func (n *Node) unmountAll() {
	n.mu.Lock()
	var targets []string
	for _, img := range n.images {
		img.prepared = false
		targets = append(targets, img.targets...)
	}
	n.mu.Unlock()
	for _, target := range targets {
		if err := n.Unmount(context.Background(), target); err != nil {
			n.log.Warn("mount stays", "target", target, "err", err)
		}
	}
}

// Prepare has all in the store that a mount needs, and says how to mount the image by hand.
func (n *Node) Prepare(ctx context.Context, req control.PrepareRequest) (control.PrepareResponse, error) {
	r, err := n.resolve(ctx, req.Source, req.Transport)
	if err != nil {
		return control.PrepareResponse{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	img, err := n.attached(ctx, r, req.Transport)
	if err != nil {
		return control.PrepareResponse{}, err
	}
	resp := control.PrepareResponse{ID: img.ID, Transport: img.transport.Name()}
	if img.spec.Fsid != "" {
		// The kernel finds everything by name, so anybody may mount it, at any time.
		img.prepared = true
		resp.Command = fmt.Sprintf("mount -t erofs -o fsid=%s,domain_id=%s none DIR", img.spec.Fsid, img.spec.Domain)
		return resp, n.save()
	}
	if img.watch == 0 {
		n.detach(ctx, img) // the mount will attach it again
	}
	options := ""
	if n.cfg.Address != control.DefaultAddress {
		options = "-o address=" + n.cfg.Address + " "
	}
	resp.Command = fmt.Sprintf("mount -t pagein %s%s DIR", options, req.Ref)
	return resp, nil
}

func without(list []string, s string) []string {
	return slices.DeleteFunc(list, func(o string) bool { return o == s })
}
