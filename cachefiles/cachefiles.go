// Package cachefiles is the transport for kernels with EROFS over fscache (Linux 5.19 to 7.1, where configured): /dev/cachefiles in on-demand mode.
// The kernel keeps metadata images and blobs in files of its own, hands us a descriptor for each, and asks for the ranges it lacks.
//
// It knows the protocol of /dev/cachefiles and nothing of where bytes come from. The one idea to hold in mind: this protocol fails closed. A range that
// nobody filled is an error to its reader, never zeros, and the kernel's own files say what is present: lseek(2) is the authority, our presence
// bits are a copy of it. What must not be lost is the device's descriptor, because all mounts are dead for good when its last copy is closed; so
// a [ondemand.Holder] has one from before the first mount on.
package cachefiles

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/ondemand"
)

// HeldName is the name under which a holder keeps the device's descriptor.
const HeldName = "cachefiles"

// Config is what a transport is made of.
type Config struct {
	Dir    string          // absolute path of a directory on ext4 or xfs, the kernel's to use; made if it is not there
	Tag    string          // the cache's name in the kernel, default "pagein"
	Domain string          // images of one domain share blobs, default "pagein"
	Holder ondemand.Holder // nil only where mounts need not outlive the process
	// Adopted are the descriptors that the holder kept from a predecessor, by name; that called [HeldName] now belongs to the transport.
	Adopted map[string]int
	Log     *slog.Logger
}

// Transport implements [ondemand.Transport].
type Transport struct {
	cfg     Config
	volume  string        // volume key of everything we serve
	slots   chan struct{} // one for each message being worked on, except
	waiting chan struct{} // READs that wait for the engine, which have one of these
	revived chan struct{} // tells Serve that there is a device again

	reads atomic.Int64 // READ messages received

	mu      sync.Mutex
	dev     *device                   // nil once that of a dead cache was let go
	adopted bool                      // dev comes from a predecessor
	dead    error                     // how the kernel showed that the cache is dead
	session *session                  // what Serve does with dev, nil while it does nothing
	metas   map[string]*attachedImage // attached images, by ID
	blobs   map[string]*attachedBlob  // blobs of attached images, by ID
	objects map[uint32]*object        // what the kernel has open, by its object ID
	refused map[string]int            // how often a cookie was refused in a row, by volume and key
	closed  map[string]time.Time      // when the kernel closed an object, by key
	served  bool                      // Serve was called, so whatever is mounted was attached before
}

type attachedImage struct {
	*ondemand.Image
	lease *lease
}

// attachedBlob is a blob with the number of attached images that have it.
type attachedBlob struct {
	blob  *ondemand.Blob
	lease *lease
	users int
}

var _ ondemand.Transport = (*Transport)(nil)

// maxMessages bounds the messages that are worked on at a time, each by a goroutine. What they wait for is local, so that the kernel's opens and closes, and reads
// of what is there, get their turn even if no backend answers. Further messages wait in the kernel.
const maxMessages = 1024

// maxWaiting bounds the READs that wait for the engine, each in a goroutine. For each the kernel has a thread waiting, which takes more memory than ours.
const maxWaiting = 16384

// New takes up the device that a predecessor left with the holder, or else opens it and makes Dir an on-demand cache. Errors that say what
// the machine lacks are a [*kmount.UnsupportedError] or a [*BusyError].
func New(cfg Config) (*Transport, error) {
	if cfg.Tag == "" {
		cfg.Tag = "pagein"
	}
	if cfg.Domain == "" {
		cfg.Domain = "pagein"
	}
	t := &Transport{
		cfg: cfg, volume: "erofs," + cfg.Domain,
		slots: make(chan struct{}, maxMessages), waiting: make(chan struct{}, maxWaiting), revived: make(chan struct{}, 1),
		metas: make(map[string]*attachedImage), blobs: make(map[string]*attachedBlob), objects: make(map[uint32]*object), refused: make(map[string]int),
		closed: make(map[string]time.Time),
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("start cachefiles transport: %w", err)
	}
	fd, adopted := cfg.Adopted[HeldName]
	t.adopted = adopted
	var err error
	if adopted {
		t.dev, err = newDevice(fd)
	} else {
		t.dev, err = t.bind()
	}
	if err != nil {
		return nil, fmt.Errorf("start cachefiles transport: %w", err)
	}
	return t, nil
}

// bind opens the device, makes the directory a cache and has the descriptor held.
func (t *Transport) bind() (*device, error) {
	if err := kmount.ProbeFscache(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(t.cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	dev, err := openDevice()
	if err != nil {
		return nil, err
	}
	err = dev.bind(t.cfg.Dir, t.cfg.Tag)
	if err == nil && t.cfg.Holder != nil {
		if err = t.cfg.Holder.Hold(HeldName, dev.fd); err != nil {
			err = fmt.Errorf("have the descriptor of %s held: %w", devicePath, err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, dev.close())
	}
	return dev, nil
}

// Probe finds out whether the transport can be used, as far as that is possible without binding a cache.
func Probe() error {
	if err := kmount.ProbeFscache(); err != nil {
		return err
	}
	dev, err := openDevice()
	if err != nil {
		return err
	}
	return dev.close()
}

// Name returns "cachefiles".
func (t *Transport) Name() string { return "cachefiles" }

// Attach makes the image and its blobs known to the kernel's opens. The error is [ErrDead] while images of a dead cache are attached; when there are none any
// more, it makes a new cache.
func (t *Transport) Attach(_ context.Context, img *ondemand.Image) (kmount.EROFS, error) {
	if err := t.attach(img); err != nil {
		return kmount.EROFS{}, fmt.Errorf("attach image %s: %w", img.ID, err)
	}
	return kmount.EROFS{Source: img.MetaPath, Fsid: img.ID, Domain: t.cfg.Domain}, nil
}

func (t *Transport) attach(img *ondemand.Image) error {
	if err := checkKey(img.ID); err != nil {
		return err
	}
	if img.MetaSize <= 0 || img.MetaSize%blockSize != 0 {
		return fmt.Errorf("its metadata has %d bytes, not a multiple of %d", img.MetaSize, blockSize)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.metas[img.ID] != nil {
		return errors.New("it is attached already")
	}
	if err := t.revive(); err != nil {
		return err
	}
	for i, b := range img.Blobs {
		if err := t.checkBlob(img, b); err != nil {
			return fmt.Errorf("device %d: %w", i+1, err)
		}
	}
	for _, b := range img.Blobs {
		if t.blobs[b.ID()] == nil {
			t.blobs[b.ID()] = &attachedBlob{blob: b, lease: newLease()}
		}
		t.blobs[b.ID()].users++
		delete(t.refused, refusedKey(t.volume, b.ID()))
	}
	t.metas[img.ID] = &attachedImage{Image: img, lease: newLease()}
	delete(t.refused, refusedKey(t.volume, img.ID))
	return nil
}

func (t *Transport) checkBlob(img *ondemand.Image, b *ondemand.Blob) error {
	id := b.ID()
	if err := checkKey(id); err != nil {
		return err
	}
	if id == img.ID || t.metas[id] != nil {
		return fmt.Errorf("blob %s has the name of a metadata image", id)
	}
	if a := t.blobs[id]; a != nil && a.blob != b {
		return fmt.Errorf("blob %s is attached as another object", id)
	}
	return nil
}

// Detach forgets an image. When it returns, no handler uses the image any more, nor those of its blobs that no other image has: it cuts off who waits for
// them. Descriptors of what the kernel still has open stay until the kernel closes them.
func (t *Transport) Detach(_ context.Context, img *ondemand.Image) error {
	t.mu.Lock()
	m := t.metas[img.ID]
	if m == nil {
		t.mu.Unlock()
		return nil
	}
	delete(t.metas, img.ID)
	ended := []*lease{m.lease}
	for _, b := range img.Blobs {
		a := t.blobs[b.ID()]
		if a.users--; a.users == 0 {
			delete(t.blobs, b.ID())
			ended = append(ended, a.lease)
		}
	}
	var over *session
	if t.dead != nil && len(t.metas) == 0 && t.session != nil {
		over = t.session
		over.cancel()
	}
	t.mu.Unlock() // handlers need it to come to their end
	for _, l := range ended {
		l.end()
	}
	if over != nil {
		<-over.done
	}
	t.letGo()
	return nil
}

// Plain is false: the kernel's cache is asked at each read.
func (t *Transport) Plain(*ondemand.Image) bool { return false }

// Close closes all descriptors, after Serve has returned. The holder's copy of the device's stays, for a successor, unless it is known that nothing is mounted
// any more: then the cache ends.
func (t *Transport) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closeObjects()
	if t.dev == nil {
		return nil
	}
	err := t.dev.close()
	if t.cfg.Holder != nil && t.served && len(t.metas) == 0 {
		err = errors.Join(err, t.cfg.Holder.Release(HeldName))
	}
	if err != nil {
		return fmt.Errorf("close cachefiles transport: %w", err)
	}
	return nil
}

// closeObjects closes what the kernel has open. The caller holds t.mu.
func (t *Transport) closeObjects() {
	for o := range maps.Values(t.objects) {
		o.close()
	}
	clear(t.objects)
}

// Reads is the number of ranges that the kernel has asked for.
func (t *Transport) Reads() int64 { return t.reads.Load() }
