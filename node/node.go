// Package node is the daemon assembled: the engine, the store, the transports that this kernel offers, and the table of what is mounted.
//
// It knows how a reference becomes an attached image and a mount, and how to take up again what a predecessor left. It must not know HTTP servers,
// command lines or containerd. The one idea to hold in mind: the kernel's superblocks are the truth. An image stays attached for exactly as long as the
// kernel may ask for its bytes, which is not as long as somebody thinks it is mounted: an open file, a bind mount or another mount namespace keeps
// a superblock alive, and an inotify watch on its root tells when it is gone.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/node/keeper"
	"github.com/pagein/pagein/oci/remote"
	"github.com/pagein/pagein/ondemand"
	"github.com/pagein/pagein/ondemand/store"
)

// Config is what a node is made of. Store, Holder and Log are required.
type Config struct {
	Store      *store.Store     // it now belongs to the node
	Transport  string           // Auto, or the name of the one to use
	Version    string           // for the status
	Began      time.Time        // when the process began, for the log
	Keeper     string           // for the status: who the holder is
	Address    string           // of the control API, for mount commands
	Engine     ondemand.Options // bounds on fetching
	Remote     *remote.Remote   // where images may come from; nil for registries as they are. It belongs to the caller
	Holder     ondemand.Holder  // keeps what mounts depend on
	HolderLost func() bool      // reports whether the holder has died and there is no other yet; nil = it cannot
	Adopted    map[string]int   // descriptors that the holder kept from a predecessor; they now belong to the node
	Prefetch   bool             // fetch images in the background, unless a mount says otherwise
	Log        *slog.Logger

	UnmountOnExit bool // unmount all when Run ends, instead of leaving the mounts to the holder
	RestoreMounts bool // mount again what was mounted when the machine went down

	Cache    CacheLimits // on what the store keeps
	Reserved string      // directory whose owner relies on the mounts below it, however idle they are; "" for none

	CheckMetadata bool // look at all of a metadata image before it is mounted
}

// Node is a running daemon. Its methods may be called concurrently.
type Node struct {
	cfg        Config
	log        *slog.Logger
	store      *store.Store
	engine     *ondemand.Engine
	remotes    remotes
	recent     recent
	transports *transports
	watch      *watch
	started    time.Time
	stop       context.CancelFunc // ends the serving of transports
	settled    chan struct{}      // closed when, after a restart of the machine, it was tried to mount all again
	mountTimes prometheus.Histogram
	evictor    *evictor

	mu     sync.Mutex // guards the tables, and is held while they are being made true
	images map[string]*image
	blobs  map[string]*sharedBlob
	lost   []imageState   // mounted by a predecessor, alive, and not to be served
	absent []imageState   // mounted when the machine went down, and not mounted again yet; no two of one image
	pins   map[string]int // parts of images, by ID, that are on their way into the tables
	closed bool

	checking chan struct{} // holds one while the store is checked
	unsaved  error         // why the mount table on disk is not that in memory, or nil

	takenAway int64 // mounts that takeAway has unmounted
	checked   storeCheck
}

// New takes up what a predecessor left, and serves it when it returns. It must be called before the process opens descriptors that it will close again:
// see fanotify.New. The caller must call Run.
func New(ctx context.Context, cfg Config) (*Node, error) {
	n := &Node{
		cfg: cfg, log: cfg.Log, store: cfg.Store, remotes: remotes{Remote: cfg.Remote}, started: time.Now(), mountTimes: newMountTimes(),
		images: make(map[string]*image), checking: make(chan struct{}, 1), blobs: make(map[string]*sharedBlob), settled: make(chan struct{}),
		evictor: newEvictor(cfg.Cache, filepath.Join(cfg.Store.Root(), reserveDir), cfg.Log),
	}
	n.store.OnFailure(func(blob string, err error) {
		n.log.Error("present bytes could not be made durable; those that the disk may have lost are fetched again", "blob", blob, "err", err)
	})
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// open does first what readers wait for, and asks the network nothing.
func (n *Node) open(ctx context.Context) (err error) {
	if n.transports, err = newTransports(n, n.cfg.Adopted); err != nil {
		return fmt.Errorf("take up transports: %w", err)
	}
	if n.watch, err = newWatch(n.cfg.Adopted); err != nil {
		return err
	}
	engine := n.cfg.Engine
	engine.Room, engine.Free = n.room, n.freeBytes
	if n.engine, err = ondemand.New(n.log, engine); err != nil {
		return err
	}
	if err := n.adopt(ctx); err != nil {
		return err
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop = stop
	n.transports.serve(serving)
	n.log.Info("serving what was mounted", "images", len(n.images), "after", time.Since(n.cfg.Began).Round(time.Millisecond/10))

	n.mu.Lock()
	defer n.mu.Unlock()
	n.saveLater() // an older table does no harm
	if _, held := n.cfg.Adopted[keeper.MountsName]; !held {
		if err := n.watch.hold(n.cfg.Holder); err != nil {
			return err
		}
	}
	if n.cfg.Transport == Auto {
		return nil
	}
	// A wrong choice should fail now, not at the first mount; that the disk is full says nothing about it.
	if _, err = n.transports.get(n.cfg.Transport); isFull(err) {
		n.log.Warn("transport is probed again at the next mount", "err", err)
		return nil
	}
	return err
}

// Settled returns a channel that is closed when, after a restart of the machine, what can be mounted again at once is.
func (n *Node) Settled() <-chan struct{} { return n.settled }

// Run keeps the mount table true until ctx is done, then stops. What is mounted stays mounted and waits for a successor, unless Config.UnmountOnExit says
// otherwise. The node cannot be used afterwards.
func (n *Node) Run(ctx context.Context) error {
	watching := make(chan error, 1)
	go func() { watching <- n.watch.run(n.gone, n.mountsChanged) }()
	restoring, stopRestoring := context.WithCancel(ctx)
	defer stopRestoring()
	restored := make(chan struct{})
	go func() {
		defer close(restored)
		n.keepRestoring(restoring)
	}()

	evicting, stopEvicting := context.WithCancel(ctx)
	evicted := make(chan struct{})
	go func() {
		defer close(evicted)
		n.evict(evicting)
	}()

	recording, stopRecording := context.WithCancel(ctx)
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		n.keepRecordings(recording)
	}()

	reading, stopReading := context.WithCancel(ctx)
	adjusted := make(chan struct{})
	go func() {
		defer close(adjusted)
		n.keepReadAhead(reading)
	}()

	var err error
	watched := false
	select {
	case <-ctx.Done():
		<-restored
		if n.cfg.UnmountOnExit {
			n.unmountAll()
		}
	case err = <-n.transports.failed:
	case err = <-watching:
		watched = true
	}
	stopRestoring()
	stopEvicting()
	stopRecording()
	stopReading()
	<-restored
	<-evicted
	<-recorded
	<-adjusted
	n.stop()
	if !watched {
		n.watch.stop()
		err = errors.Join(err, <-watching)
	}
	return errors.Join(err, n.close())
}

// enter locks the tables for an operation, which is refused once the node is being closed.
func (n *Node) enter() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return control.Errorf(control.Unavailable, "pageind is stopping")
	}
	return nil
}

// close releases what open opened, in an order in which nothing that is still used is gone.
func (n *Node) close() error {
	n.checking <- struct{}{} // a check ends when whoever asked for it is gone, and none begins any more
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	if n.stop != nil {
		n.stop()
	}
	var errs error
	for _, img := range n.images {
		img.prefetches.end()
		n.record(img)
	}
	if n.engine != nil {
		n.engine.Close()
	}
	for _, b := range n.blobs {
		b.Close()
	}
	if n.transports != nil {
		errs = errors.Join(errs, n.transports.close())
	}
	n.unmap(slices.Collect(maps.Values(n.blobs)))
	if n.watch != nil {
		errs = errors.Join(errs, n.watch.close())
	}
	n.remotes.close()
	return errors.Join(errs, n.store.Close())
}
