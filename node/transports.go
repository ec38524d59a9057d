package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pagein/pagein/cachefiles"
	"github.com/pagein/pagein/fanotify"
	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand"
)

// Auto is the transport name that means: the best one that this kernel offers.
const Auto = "auto"

// cachefilesTransport is the name of the transport whose images anybody can mount by name.
const cachefilesTransport = "cachefiles"

// kind is a transport that can be had on some kernels.
type kind struct {
	name  string
	probe func() error // nil, or why this kernel does not offer it
	open  func() (ondemand.Transport, error)
	owns  func(heldName string) bool // whether a held descriptor is this transport's
}

// transports opens transports as they are first needed, and serves them.
type transports struct {
	kinds []kind // in order of preference

	mu         sync.Mutex
	opened     map[string]ondemand.Transport
	serving    context.Context // nil before serve
	cacheTried time.Time       // when transport cachefiles could not be opened for what is in its directory
	running    sync.WaitGroup
	failed     chan error
}

// newTransports knows all transports. Those that a predecessor has left descriptors of are opened at once.
func newTransports(n *Node, adopted map[string]int) (*transports, error) {
	t := &transports{opened: make(map[string]ondemand.Transport), failed: make(chan error, 3)}
	t.kinds = []kind{
		{"fanotify", func() error { return fanotify.Probe(n.store.BlobDir()) }, func() (ondemand.Transport, error) {
			return fanotify.New(fanotify.Config{Store: n.store, Holder: n.cfg.Holder, Adopted: adopted, Track: n.cfg.Cache.MountedRanges, Log: n.log})
		}, fanotify.Owns},
		{cachefilesTransport, cachefiles.Probe, func() (ondemand.Transport, error) {
			return cachefiles.New(cachefiles.Config{Dir: n.store.CachefilesDir(), Holder: n.cfg.Holder, Adopted: adopted, Log: n.log})
		}, func(name string) bool { return name == cachefiles.HeldName }},
		{"file", func() error { return kmount.ProbeFileBacked(n.store.BlobDir()) }, func() (ondemand.Transport, error) {
			return ondemand.NewFile(n.store), nil
		}, func(string) bool { return false }},
	}
	for _, k := range t.kinds {
		for name := range adopted {
			if k.owns(name) { // then the kernel has it: a probe could only disturb
				tr, err := k.open()
				if err != nil {
					return nil, fmt.Errorf("transport %s: %w", k.name, err)
				}
				t.opened[k.name] = tr
				break
			}
		}
	}
	return t, nil
}

// names are the words that get understands.
func (t *transports) names() []string {
	names := []string{Auto}
	for _, k := range t.kinds {
		names = append(names, k.name)
	}
	return names
}

// choose returns the named transport, or for Auto the first that this kernel offers.
func (t *transports) choose(name string) (ondemand.Transport, error) {
	if name != Auto {
		return t.get(name)
	}
	var reasons error
	for _, k := range t.kinds {
		tr, err := t.get(k.name)
		if err == nil {
			return tr, nil
		}
		reasons = errors.Join(reasons, err)
	}
	return nil, fmt.Errorf("no transport works with this kernel and this store:\n%w", reasons)
}

// get returns the named transport, opening it if this kernel offers it.
func (t *transports) get(name string) (ondemand.Transport, error) { return t.open(name, true) }

// inUse returns the named transport, through which something is mounted: so this kernel offers it, and a probe would take time, and space on the disk.
func (t *transports) inUse(name string) (ondemand.Transport, error) { return t.open(name, false) }

func (t *transports) open(name string, probe bool) (ondemand.Transport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tr := t.opened[name]; tr != nil {
		return tr, nil
	}
	for _, k := range t.kinds {
		if k.name != name {
			continue
		}
		if probe {
			if err := k.probe(); err != nil {
				return nil, fmt.Errorf("transport %s: %w", name, err)
			}
		}
		tr, err := k.open()
		if err != nil {
			return nil, fmt.Errorf("transport %s: %w", name, err)
		}
		t.opened[name] = tr
		if t.serving != nil {
			t.start(tr)
		}
		return tr, nil
	}
	return nil, fmt.Errorf("there is no transport %q", name)
}

// releaseUnclaimed has transports give up what a predecessor left for images that are mounted no more.
func (t *transports) releaseUnclaimed(log *slog.Logger) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, tr := range t.opened {
		if r, ok := tr.(interface{ ReleaseUnclaimed() error }); ok {
			if err := r.ReleaseUnclaimed(); err != nil {
				log.Warn("held descriptors stay", "transport", name, "err", err)
			}
		}
	}
}

// served reports whether serve has been called: until then, what is attached is what a predecessor had mounted.
func (t *transports) served() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.serving != nil
}

// fixed returns the IDs of blobs whose ranges were to be evicted and cannot be: because they are or were complete, or because their reads are not all known.
func (t *transports) fixed() (whole, untracked []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tr := range t.opened {
		if f, ok := tr.(interface {
			Fixed() (whole, untracked []string)
		}); ok {
			w, u := f.Fixed()
			whole, untracked = append(whole, w...), append(untracked, u...)
		}
	}
	return whole, untracked
}

// serve starts to answer the kernel, until ctx is done.
func (t *transports) serve(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serving = ctx
	for _, tr := range t.opened {
		t.start(tr)
	}
}

func (t *transports) start(tr ondemand.Transport) {
	ctx := t.serving
	t.running.Go(func() {
		if err := tr.Serve(ctx); err != nil {
			t.failed <- fmt.Errorf("transport %s: %w", tr.Name(), err)
		}
	})
}

// close lets go of the kernel, after serve's ctx is done and the blobs are closed.
func (t *transports) close() error {
	t.running.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs error
	for _, tr := range t.opened {
		errs = errors.Join(errs, tr.Close())
	}
	return errs
}

// status says what this kernel offers.
func (t *transports) status() []control.Transport {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []control.Transport
	for _, k := range t.kinds {
		s := control.Transport{Name: k.name, Available: true, InUse: t.opened[k.name] != nil}
		if !s.InUse { // the probe of one in use could disturb it
			if err := k.probe(); err != nil {
				s.Available, s.Reason = false, err.Error()
			}
		}
		list = append(list, s)
	}
	return list
}
