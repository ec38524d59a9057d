package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	began := time.Now()
	target, err := filepath.EvalSymlinks(req.Target)
	if err != nil {
		return control.MountResponse{}, control.Errorf(control.Invalid, "mount %s: %w", req.Ref, err)
	}
	if !filepath.IsAbs(target) {
		return control.MountResponse{}, control.Errorf(control.Invalid, "mount %s: %s is no absolute path", req.Ref, req.Target)
	}
	if info, err := os.Stat(target); err != nil {
		return control.MountResponse{}, control.Errorf(control.Invalid, "mount %s: %w", req.Ref, err)
	} else if !info.IsDir() {
		return control.MountResponse{}, control.Errorf(control.Invalid, "mount %s: %s is not a directory: images are mounted on directories", req.Ref, target)
	}
	r, err := n.resolve(ctx, req.Source, req.Transport, req.Policy)
	if err != nil {
		return control.MountResponse{}, err
	}
	defer n.unpin(r)
	loaded := time.Now()
	if err := n.enter(); err != nil {
		return control.MountResponse{}, err
	}
	defer n.mu.Unlock()
	mounts, err := kmount.List()
	if err != nil {
		return control.MountResponse{}, err
	}
	for _, other := range n.images {
		if slices.ContainsFunc(mounts, func(m kmount.Info) bool { return m.Target == target && other.is(m) }) {
			return control.MountResponse{}, control.Errorf(control.AlreadyExists, "mount %s: %s is already mounted on %s", req.Ref, other.Origin.Ref, target)
		}
		other.targets = without(other.targets, target) // unmounted behind our back
	}
	img, err := n.attached(ctx, r, req.Transport)
	if err != nil {
		return control.MountResponse{}, err
	}
	if err := n.mountOn(ctx, img, target); err != nil {
		if len(img.watches) == 0 && !img.prepared { // else the end of the superblock detaches it
			n.detach(context.WithoutCancel(ctx), img)
		}
		return control.MountResponse{}, err
	}
	img.history.was(began, loaded)
	if n.forgetAbsent(target) {
		n.saveLater()
	}
	n.mountTimes.Observe(time.Since(began).Seconds())
	n.log.Info("mounted", "ref", req.Ref, "target", target, "transport", img.transport.Name(), "image", img.ID)
	return control.MountResponse{ID: img.ID, Target: target, Transport: img.transport.Name()}, nil
}

// resolve checks a request and loads the image that it names.
func (n *Node) resolve(ctx context.Context, src control.Source, transport string, want control.Policy) (record, error) {
	if names := n.transports.names(); transport != "" && !slices.Contains(names, transport) {
		return record{}, control.Errorf(control.Invalid, "mount %s: there is no transport %q: choose one of %v", src.Ref, transport, names)
	}
	p, err := n.policy(want)
	if err != nil {
		return record{}, err
	}
	r, err := n.load(ctx, origin{Ref: src.Ref, PlainHTTP: src.PlainHTTP, Insecure: src.Insecure})
	r.Policy = p
	return r, err
}

// attached returns the image, attaching it if it is not. The caller holds n.mu.
func (n *Node) attached(ctx context.Context, r record, transport string) (*image, error) {
	if img := n.images[r.ID]; img != nil {
		if transport != "" && transport != Auto && transport != img.transport.Name() {
			return nil, control.Errorf(control.AlreadyExists, "mount %s: the image is attached through transport %s: unmount it first, or leave the choice to pageind",
				r.Origin.Ref, img.transport.Name())
		}
		n.joinImage(img, r)
		n.adjust(img, r.Policy)
		return img, nil
	}
	tr, err := n.transportFor(r, transport)
	if err != nil {
		return nil, err
	}
	if err := n.compatible(r, tr); err != nil {
		return nil, err
	}
	return n.attach(ctx, r, tr)
}

// transportFor returns the transport that a request asks for, "" standing for the node's choice.
func (n *Node) transportFor(r record, transport string) (ondemand.Transport, error) {
	if transport == "" {
		transport = n.cfg.Transport
	}
	tr, err := n.transports.choose(transport)
	if err != nil {
		return nil, control.Errorf(control.Unavailable, "mount %s: %w", r.Origin.Ref, err)
	}
	return tr, nil
}

// compatible refuses to serve one blob through two transports at a time: each believes that it alone fills the blob. Images that could not be taken up count too: their
// marks may be there, and nobody to answer for them.
func (n *Node) compatible(r record, tr ondemand.Transport) error {
	others := slices.Clone(n.lost)
	for _, img := range n.images {
		others = append(others, imageState{record: img.record, Transport: img.transport.Name()})
	}
	for _, other := range others {
		for _, b := range r.Blobs {
			if other.Transport != tr.Name() && slices.ContainsFunc(other.Blobs, func(o blobRecord) bool { return o.ID == b.ID }) {
				return control.Errorf(control.AlreadyExists, "mount %s through %s: it shares blob %s with %s, which is mounted through %s", r.Origin.Ref, tr.Name(),
					b.ID, other.Origin.Ref, other.Transport)
			}
		}
	}
	return nil
}

// mountOn makes the image appear at target. Before anybody can see the mount, its superblock is watched and the mount recorded: whoever kills us in between
// leaves nothing that is mounted and not kept. The caller holds n.mu.
func (n *Node) mountOn(ctx context.Context, img *image, target string) error {
	ctx, cancel := context.WithTimeout(ctx, mountTimeout)
	defer cancel()
	m, err := n.detached(ctx, img)
	if err != nil {
		return err
	}
	defer m.Close() // an unattached mount ends here, and so does its watch
	wd, err := n.watch.add(m.Path())
	if err != nil {
		return err
	}
	img.watches[wd] = true
	img.targets = append(img.targets, target)
	if err = n.save(); err != nil {
		err = fmt.Errorf("record the mount on %s: %w", target, err)
	} else {
		err = m.Attach(target)
	}
	if err != nil {
		img.targets = without(img.targets, target)
	}
	return err
}

// detached returns another mount of a superblock that the image has, or of a new one.
func (n *Node) detached(ctx context.Context, img *image) (*kmount.Detached, error) {
	mounts, err := img.mounts()
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		if top, ok, err := kmount.Lookup(m.Target); m.Root != "/" || err != nil || !ok || top.ID != m.ID {
			continue // a part of the image, or under another mount
		}
		if d, err := kmount.Clone(m); err == nil {
			return d, nil
		}
	}
	n.prime(ctx, img)
	d, err := n.superblock(ctx, img)
	if errors.Is(err, unix.EEXIST) {
		err = fmt.Errorf("%w: the image is mounted where it cannot be bound from, such as in another mount namespace", err)
	}
	return d, err
}

// Unmount takes the mount off target. The image is forgotten when nothing else uses it.
func (n *Node) Unmount(ctx context.Context, target string) error {
	if resolved, err := filepath.EvalSymlinks(target); err == nil {
		target = resolved
	}
	img, last, err := n.unmount(target)
	if err != nil || !last {
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

// unmount takes the mount off target and reports whether it was the image's last.
func (n *Node) unmount(target string) (img *image, last bool, err error) {
	if err := n.enter(); err != nil {
		return nil, false, err
	}
	defer n.mu.Unlock()
	for _, img := range n.images {
		if !slices.Contains(img.targets, target) {
			continue
		}
		if err := takeOff(target, img.is); err != nil {
			return nil, false, err
		}
		img.targets = without(img.targets, target)
		n.log.Info("unmounted", "ref", img.Origin.Ref, "target", target)
		n.saveLater() // what is unmounted stays so
		return img, len(img.targets) == 0, nil
	}
	for at, i := range n.lost {
		if slices.Contains(i.Targets, target) {
			// It is forgotten when the kernel has dropped its superblock.
			err := takeOff(target, func(top kmount.Info) bool { return n.shows(top, i) })
			if err == nil {
				n.lost[at].Targets = without(i.Targets, target)
				n.saveLater()
			}
			return nil, false, err
		}
	}
	if n.forgetAbsent(target) {
		n.saveLater()
		return nil, false, nil
	}
	return nil, false, control.Errorf(control.NotFound, "unmount %s: pageind has mounted nothing there: see pagein status", target)
}

// takeOff takes the mount off target, if there still is one; it must be one that ours recognizes.
func takeOff(target string, ours func(top kmount.Info) bool) error {
	top, mounted, err := kmount.Lookup(target)
	if err != nil || !mounted {
		return err
	}
	if !ours(top) {
		return control.Errorf(control.Invalid, "unmount %s: another file system (%s) is mounted on top: unmount that first", target, top.Type)
	}
	err = kmount.Unmount(target, 0)
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("%w: close what is open below it, or leave it (fuser -vm %s tells who)", err, target)
	}
	return err
}

// unmountAll unmounts what is not in use. What is stays, for the holder to keep.
func (n *Node) unmountAll() {
	n.mu.Lock()
	n.absent = nil
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
	n.mu.Lock()
	defer n.mu.Unlock()
	n.saveLater()
}

// Prepare has all in the store that a mount needs, and says how to mount the image by hand.
func (n *Node) Prepare(ctx context.Context, req control.PrepareRequest) (control.PrepareResponse, error) {
	r, err := n.resolve(ctx, req.Source, req.Transport, req.Policy)
	if err != nil {
		return control.PrepareResponse{}, err
	}
	defer n.unpin(r)
	if err := n.enter(); err != nil {
		return control.PrepareResponse{}, err
	}
	defer n.mu.Unlock()
	tr, err := n.transportFor(r, req.Transport)
	if err != nil {
		return control.PrepareResponse{}, err
	}
	resp := control.PrepareResponse{ID: r.ID, Transport: tr.Name()}
	if tr.Name() != cachefilesTransport {
		resp.Command = n.helperCommand(req)
		return resp, nil
	}
	img, err := n.attached(ctx, r, req.Transport)
	if err != nil {
		return control.PrepareResponse{}, err
	}
	// The kernel finds everything by name, so anybody may mount it, at any time.
	if len(img.watches) == 0 {
		n.prime(ctx, img)
	}
	img.prepared = true
	resp.Command = fmt.Sprintf("mount -t erofs -o fsid=%s,domain_id=%s none DIR", img.spec.Fsid, img.spec.Domain)
	return resp, n.save()
}

// helperCommand is the command that has mount.pagein ask this daemon.
func (n *Node) helperCommand(req control.PrepareRequest) string {
	var options []string
	if n.cfg.Address != control.DefaultAddress {
		options = append(options, "address="+n.cfg.Address)
	}
	if req.Transport != "" {
		options = append(options, "transport="+req.Transport)
	}
	if req.Deadline != "" {
		options = append(options, "deadline="+req.Deadline)
	}
	if req.Prefetch != "" {
		options = append(options, "prefetch="+req.Prefetch)
	}
	if req.PlainHTTP {
		options = append(options, "plain-http")
	}
	if req.Insecure {
		options = append(options, "insecure")
	}
	command := "mount -t pagein "
	if len(options) > 0 {
		command += "-o " + shellQuote(strings.Join(options, ",")) + " "
	}
	return command + shellQuote(req.Ref) + " DIR"
}

// shellQuote makes s one word for a shell.
func shellQuote(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(plainCharacters, r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

const plainCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@,=+"

func without(list []string, s string) []string {
	return slices.DeleteFunc(list, func(o string) bool { return o == s })
}
