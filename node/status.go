package node

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/pagein/pagein/cachefiles"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand"
)

// Status describes the node at this moment.
func (n *Node) Status(context.Context) (control.Status, error) {
	if err := n.enter(); err != nil {
		return control.Status{}, err
	}
	defer n.mu.Unlock()
	e := n.engine.Stats()
	s := control.Status{
		Version: n.cfg.Version, PID: os.Getpid(), Started: n.started, Root: n.store.Root(), Transport: n.cfg.Transport, Keeper: n.cfg.Keeper,
		Transports: n.transports.status(),
		Policy:     n.words(policy{Prefetch: n.cfg.Prefetch}),
		Images:     []control.Image{},
		Totals: control.Totals{
			BackendBytes: e.Received, BackendRequests: e.Requests, BackendRetries: e.Retries, BackendHedges: e.Hedges, BackendErrors: e.Errors, FailedReads: e.Failed,
			DemandBytes: e.Demand, AheadBytes: e.Ahead, AroundBytes: e.Around, PrefetchBytes: e.Prefetch, UselessBytes: e.Useless, InFlight: e.Active, WaitingReads: e.Waiting,
			OwnTime: quantiles(e.Own), MissTime: quantiles(e.Total),
		},
	}
	if n.unsaved != nil {
		s.Problem = fmt.Sprintf("what is mounted is not recorded, it is tried again: %v", n.unsaved)
	}
	var err error
	if s.Cache, err = n.cacheStatus(); err != nil {
		return control.Status{}, err
	}
	if s.Cache.OverBytes > 0 || s.Cache.OverFiles > 0 {
		if s.Cache.Held, err = n.held(); err != nil {
			return control.Status{}, err
		}
	}
	if problem := n.evictor.problem(); problem != nil && s.Problem == "" {
		s.Problem = problem.Error()
	}
	if n.holderLost() && s.Problem == "" {
		s.Problem = "the keeper has died and there is no other yet: mounts depend on pageind alone"
	}
	for _, img := range n.images {
		i, err := img.status()
		if err != nil {
			return control.Status{}, err
		}
		i.Policy = n.words(img.Policy)
		s.Images = append(s.Images, i)
	}
	for _, i := range slices.Concat(n.lost, n.absent) {
		if i.problem != nil {
			lost := i.status()
			lost.Policy = n.words(i.Policy)
			s.Images = append(s.Images, lost)
		}
	}
	slices.SortFunc(s.Images, func(a, b control.Image) int { return cmp.Compare(a.Ref, b.Ref) })
	return s, nil
}

// Transports says which transports this kernel offers.
func (n *Node) Transports() []control.Transport { return n.transports.status() }

func (img *image) status() (control.Image, error) {
	mounts, err := img.mounts()
	if err != nil {
		return control.Image{}, err
	}
	targets := []string{}
	for _, m := range mounts {
		targets = append(targets, m.Target)
	}
	s := control.Image{
		ID: img.ID, Ref: img.Origin.Ref, Transport: img.transport.Name(), Targets: targets, Blobs: len(img.attached.Blobs), MetaBytes: img.MetaSize,
	}
	for _, b := range img.backings {
		s.Backings = append(s.Backings, string(b.Name))
	}
	for _, b := range img.attached.Blobs {
		s.TotalBytes += b.Size()
		s.PresentBytes += img.present(b)
		s.FetchedBytes += b.Fetched()
	}
	var problem error
	if s.State, problem = img.state(); problem != nil {
		s.Problem = problem.Error()
	}
	return s, nil
}

// present is how many bytes of one of the image's blobs are on the disk. A daemon that took a mount over from another one goes by the size of the kernel's file, until the kernel asks
// it for something and shows what is in there.
func (img *image) present(b *ondemand.Blob) int64 {
	if cache, ok := img.transport.(*cachefiles.Transport); ok && !b.Bound() {
		return min(cache.Stored(b.ID()), b.Size())
	}
	return b.Present()
}

// status describes an image that is lost.
func (i imageState) status() control.Image {
	return control.Image{
		ID: i.ID, Ref: i.Origin.Ref, Transport: i.Transport, Targets: append([]string{}, i.Targets...), Blobs: len(i.Blobs), MetaBytes: i.MetaSize,
		State: control.Lost, Problem: i.problem.Error(),
	}
}

// state says how it is with the image, and why if that is not well. Errors that readers got are worse than waiting.
func (img *image) state() (control.State, error) {
	var waiting error
	for _, b := range img.attached.Blobs {
		switch p := b.Problem(); {
		case p == nil:
		case p.Final:
			return control.Failing, p.Err
		default:
			waiting = p.Err
		}
	}
	switch {
	case waiting != nil:
		return control.Waiting, waiting
	case img.complete():
		return control.Complete, nil
	case img.prefetches.running():
		return control.Prefetching, nil
	}
	return control.Lazy, nil
}

func quantiles(q ondemand.Quantiles) control.Quantiles {
	return control.Quantiles{Count: q.Count, P50: q.P50, P99: q.P99, Max: q.Max}
}
