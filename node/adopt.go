package node

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/node/keeper"
	"github.com/pagein/pagein/ondemand/store"
)

const stateName = "mounts"

// state is the mount table on disk. It counts for one boot of the kernel.
type state struct {
	Boot   string
	Images []imageState
}

type imageState struct {
	record
	Transport string
	Watch     int32
	Targets   []string
	Prepared  bool
}

// save records the mount table. The caller holds n.mu.
func (n *Node) save() error {
	boot, err := store.BootID()
	if err != nil {
		return err
	}
	s := state{Boot: boot}
	for _, img := range n.images {
		s.Images = append(s.Images, imageState{record: img.record, Transport: img.transport.Name(), Watch: img.watch, Targets: img.targets, Prepared: img.prepared})
	}
	return n.store.SaveState(stateName, s)
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
	if s.Boot != boot {
		n.log.Info("the machine has been restarted: earlier mounts are forgotten", "images", len(s.Images))
		return nil
	}
	if _, held := n.cfg.Adopted[keeper.MountsName]; !held {
		return n.abandon(ctx, s)
	}
	alive, err := n.watch.alive()
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, i := range s.Images {
		if !alive[i.Watch] && !i.Prepared {
			continue
		}
		if err := n.adoptImage(ctx, i); err != nil {
			// Its readers get errors as long as the held descriptors exist; nothing they could read instead would be right.
			n.log.Error("mounted image cannot be served: unmount it and mount it again", "ref", i.Origin.Ref, "targets", i.Targets, "err", err)
		}
	}
	return n.save()
}

func (n *Node) adoptImage(ctx context.Context, i imageState) error {
	tr, err := n.transports.get(i.Transport)
	if err != nil {
		return err
	}
	img, err := n.attach(ctx, i.record, tr)
	if err != nil {
		return err
	}
	img.watch, img.targets, img.prepared = i.Watch, i.Targets, i.Prepared
	n.log.Info("adopted", "ref", i.Origin.Ref, "targets", i.Targets, "transport", i.Transport)
	return nil
}

// abandon takes away mounts whose keeper has died with their daemon. From then on they have been able to read zeros where bytes were missing, or errors for
// good, so they must not be used any more. Only complete files never needed a keeper.
func (n *Node) abandon(ctx context.Context, s state) error {
	all, err := kmount.List()
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs error
	for _, i := range s.Images {
		i.Targets, i.Watch, i.Prepared = nil, 0, false
		for _, m := range all {
			if m.Source == n.store.MetaPath(i.ID) {
				i.Targets = append(i.Targets, m.Target)
			}
		}
		switch {
		case len(i.Targets) == 0:
		case i.Transport == fileTransport:
			if i.Watch, err = n.watch.add(i.Targets[0]); err == nil {
				err = n.adoptImage(ctx, i)
			}
			errs = errors.Join(errs, err)
		default:
			for _, target := range i.Targets {
				n.log.Error("mount is taken away: its keeper died with its daemon, so its bytes cannot be trusted", "ref", i.Origin.Ref, "target", target)
				errs = errors.Join(errs, kmount.Unmount(target, unix.MNT_DETACH))
			}
		}
	}
	return errors.Join(errs, n.save())
}
