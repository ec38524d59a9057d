package node

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/node/keeper"
	"github.com/pagein/pagein/ondemand"
	"github.com/pagein/pagein/ondemand/store"
)

const stateName = "mounts"

// state is the mount table on disk.
type state struct {
	Boot   string // of the kernel: of another one, nothing is mounted any more
	Images []imageState
}

type imageState struct {
	record
	Transport string
	Watches   []int32
	Targets   []string
	Prepared  bool
	Backings  []backing `json:",omitempty"`
	Absent    bool      `json:",omitempty"` // not mounted yet since the machine was restarted

	problem error // why it is not served, or not mounted again; nil before that has been tried
}

// save records the mount table. The caller holds n.mu. What could not be recorded is tried again, see [Node.saveLater], unless a later change is.
func (n *Node) save() (err error) {
	defer func() { n.unsaved = err }()
	boot, err := store.BootID()
	if err != nil {
		return err
	}
	s := state{Boot: boot, Images: slices.Concat(n.lost, n.absent)}
	for _, img := range n.images {
		s.Images = append(s.Images, imageState{
			record: img.record, Transport: img.transport.Name(), Watches: slices.Sorted(maps.Keys(img.watches)), Targets: img.targets, Prepared: img.prepared, Backings: img.backings,
		})
	}
	return n.withRoom(func() error { return n.store.SaveState(stateName, s) })
}

// saveLater records the mount table after something ended that cannot be brought back: if there is no space for it, the status says so until there is. A successor that
// reads the older table finds that less is alive than it says, which it can tell by itself. The caller holds n.mu.
func (n *Node) saveLater() {
	failed := n.unsaved != nil
	if err := n.save(); err != nil && !failed {
		n.log.Error("mount table is not saved; it is tried again", "err", err)
	} else if err == nil && failed {
		n.log.Info("mount table is saved")
	}
}

// adopt attaches what a predecessor had mounted and is mounted still.
func (n *Node) adopt(ctx context.Context) error {
	var s state
	if err := n.store.LoadState(stateName, &s); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	boot, err := store.BootID()
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.Boot != boot {
		n.log.Info("the machine has been restarted", "images", len(s.Images), "mounted again", n.cfg.RestoreMounts)
		n.rememberAbsent(s.Images)
		return nil
	}
	n.rememberAbsent(slices.DeleteFunc(slices.Clone(s.Images), func(i imageState) bool { return !i.Absent }))
	s.Images = slices.DeleteFunc(s.Images, func(i imageState) bool { return i.Absent })
	if _, held := n.cfg.Adopted[keeper.MountsName]; !held {
		for _, i := range s.Images {
			n.abandon(ctx, i)
		}
		return nil
	}
	alive, err := n.watch.alive()
	if err != nil {
		return err
	}
	for _, i := range s.Images {
		i.Watches = slices.DeleteFunc(i.Watches, func(wd int32) bool { return !alive[wd] })
		if len(i.Watches) == 0 && !i.Prepared {
			continue
		}
		if err := n.adoptImage(ctx, i); err != nil {
			i.problem = err
			n.lost = append(n.lost, i)
			n.log.Error("mounted image cannot be served: its readers wait or get errors; unmount it and mount it again", "ref", i.Origin.Ref, "targets", i.Targets, "err", err)
			if errors.Is(err, ondemand.ErrUnguarded) {
				n.takeAway(i)
			}
		}
	}
	if len(n.lost) == 0 {
		n.transports.releaseUnclaimed(n.log)
	}
	return nil
}

func (n *Node) adoptImage(ctx context.Context, i imageState) error {
	tr, err := n.transports.inUse(i.Transport)
	if err != nil {
		return err
	}
	img, err := n.attach(ctx, i.record, tr)
	if err != nil {
		return err
	}
	img.history.adopted = true
	for _, wd := range i.Watches {
		img.watches[wd] = true
	}
	img.targets = append(img.targets, i.Targets...)
	img.prepared = img.prepared || i.Prepared
	img.backings = append(img.backings, i.Backings...)
	n.log.Info("adopted", "ref", i.Origin.Ref, "targets", i.Targets, "transport", i.Transport)
	return nil
}

// abandon deals with an image of a daemon whose keeper died with it. From then on its mounts have been able to read zeros where bytes were missing, or errors for
// good, so they are taken away; what of them cannot be, because it is in use, is served again. Only complete files never needed a keeper.
func (n *Node) abandon(ctx context.Context, i imageState) {
	mounts, err := kmount.List()
	if err != nil {
		n.log.Error("mounts cannot be listed", "err", err)
	}
	i.Targets, i.Watches, i.Prepared = nil, nil, false
	for _, m := range mounts {
		if !n.shows(m, i) {
			continue
		}
		i.Targets = append(i.Targets, m.Target)
		if top, ok, err := kmount.Lookup(m.Target); err == nil && ok && top.ID == m.ID {
			if wd, err := n.watch.add(m.Target); err == nil {
				i.Watches = append(i.Watches, wd)
			}
		}
	}
	if len(i.Targets) == 0 {
		return
	}
	if err := n.adoptImage(ctx, i); err != nil {
		n.log.Error("mounted image cannot be served", "ref", i.Origin.Ref, "err", err)
		i.problem = err
		n.lost = append(n.lost, i)
	} else if i.Transport != cachefilesTransport && n.images[i.ID].complete() {
		return
	}
	n.takeAway(i)
}

// complete reports whether all of the image's bytes are on this node, in files that are read without a daemon.
func (img *image) complete() bool {
	return !slices.ContainsFunc(img.attached.Blobs, func(b *ondemand.Blob) bool { return !b.Complete() })
}

// takeAway unmounts what cannot be trusted, where this mount namespace shows it. The caller holds n.mu.
func (n *Node) takeAway(i imageState) {
	for _, target := range i.Targets {
		n.log.Error("mount is taken away: its keeper died with its daemon, so its bytes cannot be trusted; restart what still uses it", "ref", i.Origin.Ref, "target", target)
		if top, ok, err := kmount.Lookup(target); err != nil || !ok || !n.shows(top, i) {
			n.log.Error("mount stays: another one is on top of it", "target", target, "err", err)
			continue
		}
		if err := kmount.Unmount(target, unix.MNT_DETACH); err != nil {
			n.log.Error("mount stays", "target", target, "err", err)
			continue
		}
		n.takenAway++
	}
}

// shows reports whether a mount is of that image; what was mounted by hand after a Prepare has any source.
func (n *Node) shows(m kmount.Info, i imageState) bool {
	return m.Type == "erofs" && (m.Source == n.store.MetaPath(i.ID) || i.Transport == cachefilesTransport && m.Option("fsid") == i.ID)
}
