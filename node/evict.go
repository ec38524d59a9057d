package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pagein/pagein/node/control"
)

// Why something is evicted: the labels of the metric.
const (
	evictedForSpace   = "watermark" // the store takes too much
	evictedForReaders = "full"      // a write found the disk full
	evictedByRequest  = "gc"
)

const (
	// evictEvery is how often the disk is looked at.
	evictEvery = 5 * time.Second
	// evictSoon is how often while it is full, or the store over its limit.
	evictSoon = time.Second
	// roomStep is the least that a write without space has evicted, in bytes.
	roomStep = 64 << 20
	// leastRoom is what must be free, in bytes, for a full disk to count as one with space again.
	leastRoom = 1 << 20
	// roomPatience is how long the evictor waits for the mount table on behalf of a write without space.
	roomPatience = 2 * time.Second
	// roomTimeout bounds how long such a write waits for the evictor, which may be at work, or waiting for somebody who waits for the write.
	roomTimeout = 10 * time.Second
)

// evictor keeps the store within its limits. What is in it goes in this order: what nobody has mounted, idle mounts, cold ranges of what is mounted; the latter two only if the
// limits say so. A full disk first costs the reserve, which is made again when there is space.
type evictor struct {
	limits  CacheLimits
	asked   chan chan bool // writes that found no space; the answer is whether there is some now
	timeout time.Duration  // roomTimeout

	started bool // what was mounted before is in the tables: what is not in them is not needed; guarded by n.mu

	mu      sync.Mutex // may be taken with n.mu held, not the other way round
	reserve reserve
	full    bool             // a write failed for want of space, and there has not been any since
	evicted map[string]int64 // bytes, by reason
	given   bool             // the reserve has been given up
	kept    bool             // it is known that all that is over the limit is in use
}

func newEvictor(limits CacheLimits, dir string, log *slog.Logger) *evictor {
	e := &evictor{limits: limits, asked: make(chan chan bool), timeout: roomTimeout, reserve: reserve{dir: dir}, evicted: make(map[string]int64)}
	if err := e.reserve.adopt(limits.Reserve > 0); err != nil {
		log.Warn("reserve is in disorder", "err", err)
	}
	return e
}

// evict keeps the store within its limits until ctx is done.
func (n *Node) evict(ctx context.Context) {
	e := n.evictor
	n.mu.Lock()
	e.started = true
	n.mu.Unlock()
	for {
		pause := evictEvery
		over, err := n.keepLimits(ctx)
		if err != nil {
			n.log.Error("store is not kept within its limits; it is tried again", "err", err)
		} else if over || e.problem() != nil {
			pause = evictSoon
		}
		select {
		case <-ctx.Done():
			return
		case reply := <-e.asked:
			reply <- n.tryRoom()
		case <-time.After(pause):
		}
	}
}

// room is called by writes that found the disk full, see [ondemand.Options]. It reports whether it is worth to try again.
func (n *Node) room(ctx context.Context) bool {
	if n.evictor.giveReserve(n.log) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, n.evictor.timeout)
	defer cancel()
	reply := make(chan bool, 1)
	select {
	case n.evictor.asked <- reply: // whoever holds n.mu may wait for the very fetch that asks
	case <-ctx.Done():
		return false
	}
	select {
	case ok := <-reply:
		return ok
	case <-ctx.Done():
		return false
	}
}

// tryRoom is makeRoom for who does not hold n.mu. Whoever holds it for long may be waiting for the very write that finds no space.
func (n *Node) tryRoom() bool {
	for end := time.Now().Add(roomPatience); !n.mu.TryLock(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	defer n.mu.Unlock()
	return n.makeRoom()
}

// withRoom does something that needs space, again as long as there is none and some can be made. The caller holds n.mu.
func (n *Node) withRoom(do func() error) error {
	err := do()
	for isFull(err) && n.makeRoom() {
		err = do()
	}
	return advise(err)
}

// errNoSpace is what to do then.
var errNoSpace = errors.New("the store's disk is full: give it space, or unmount images (see pagein status) and run pagein gc")

// advise adds to the error of what failed for want of space what can be done about it.
func advise(err error) error {
	if !isFull(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errNoSpace, err)
}

// makeRoom gives up the reserve, or evicts what nobody needs, for a write that found no space, and reports whether there is some now. The caller holds n.mu.
func (n *Node) makeRoom() bool {
	e := n.evictor
	if e.giveReserve(n.log) {
		return true
	}
	if !e.started {
		return false
	}
	_, freed, err := n.evictIdle(amount{bytes: roomStep, files: 1}, false)
	if err != nil {
		n.log.Error("evict for a full disk", "err", err)
	}
	e.count(evictedForReaders, freed.bytes)
	if freed.files > 0 {
		n.log.Warn("disk is full: evicted what nobody has mounted", "bytes", freed.bytes)
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.full {
		e.full = true
		n.log.Error("disk is full, and all of the store is in use: readers of what is missing get errors", "root", n.store.Root())
	}
	return false
}

// giveReserve gives up the reserve and reports whether there was one.
func (e *evictor) giveReserve(log *slog.Logger) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	released, err := e.reserve.release()
	if err != nil {
		log.Error("disk is full, and its reserve cannot be given up", "err", err)
	}
	if released {
		e.given = true
		log.Warn("disk is full: its reserve is given up")
	}
	return released
}

// keepLimits looks at the disk, evicts what is over the limits, makes the reserve again if it can, and reports whether the store was over its limit.
func (n *Node) keepLimits(ctx context.Context) (over bool, err error) {
	s, err := n.space()
	if err != nil {
		return false, err
	}
	e := n.evictor
	if want := e.limits.excess(s); !(amount{}).enough(want) {
		over = true
		evictErr := n.evictFor(ctx, want)
		if s, err = n.space(); err != nil {
			return over, errors.Join(evictErr, err)
		}
		err = evictErr
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	err = errors.Join(err, e.reserve.take(e.limits.Reserve, s))
	if e.reserve.held > 0 {
		e.given = false
	}
	if roomy := max(2*reserveSize(e.limits.Reserve, s), leastRoom); e.full && (e.reserve.held > 0 || s.free > roomy) {
		e.full = false
		n.log.Info("there is space on the store's disk again", "free", humanize.IBytes(uint64(s.free)))
	}
	return over, err
}

// evictFor gives want back, as far as the limits allow. Its errors are of things that stay.
func (n *Node) evictFor(ctx context.Context, want amount) error {
	e := n.evictor
	freed, err := n.evictUnused(want)
	tried := make(map[string]bool)
	for !freed.enough(want) && e.limits.IdleMounts > 0 && n.unmountIdle(ctx, tried) { // what it used may go
		more, evictErr := n.evictUnused(amount{want.bytes - freed.bytes, want.files - freed.files})
		freed = amount{freed.bytes + more.bytes, freed.files + more.files}
		err = errors.Join(err, evictErr)
	}
	if freed.bytes < want.bytes && e.limits.MountedRanges {
		n, evictErr := n.evictRanges(ctx, want.bytes-freed.bytes)
		freed.bytes += n
		err = errors.Join(err, evictErr)
	}
	enough := freed.enough(want)
	if !enough && !e.kept {
		n.mu.Lock()
		held, heldErr := n.held()
		n.mu.Unlock()
		err = errors.Join(err, heldErr)
		n.log.Warn("store is over its limit, and the rest is in use: remove images that are not needed, or raise cache-high; pagein status says what cannot be evicted",
			"bytes_above_cache_low", max(want.bytes-freed.bytes, 0), "files_above_cache_low", max(want.files-freed.files, 0), "held_bytes", held)
	}
	e.kept = !enough
	return err
}

// evictUnused removes what nobody needs.
func (n *Node) evictUnused(want amount) (amount, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	gone, freed, err := n.evictIdle(want, false)
	n.evictor.count(evictedForSpace, freed.bytes)
	if len(gone) > 0 {
		n.log.Info("evicted what nobody has mounted", "objects", len(gone), "bytes", freed.bytes)
	}
	return freed, err
}

// unmountIdle unmounts what has not been used for longest, if that is long, and was not tried before, and reports whether something was.
func (n *Node) unmountIdle(ctx context.Context, tried map[string]bool) bool {
	for ctx.Err() == nil {
		n.mu.Lock()
		target, ok := n.idleTarget(n.evictor.limits.IdleMounts, tried)
		n.mu.Unlock()
		if !ok {
			return false
		}
		tried[target] = true
		if err := n.Unmount(ctx, target); err != nil { // in use, after all
			n.log.Debug("idle mount stays", "target", target, "err", err)
			continue
		}
		n.log.Warn("idle mount is unmounted for its space", "target", target)
		return true
	}
	return false
}

// evictRanges evicts cold ranges of what is mounted.
func (n *Node) evictRanges(ctx context.Context, want int64) (freed int64, err error) {
	n.mu.Lock()
	blobs := n.mountedBlobs()
	n.mu.Unlock()
	for _, m := range blobs {
		if freed >= want || ctx.Err() != nil {
			break
		}
		got, evictErr := m.by.Evict(m.blob, want-freed)
		freed += got
		err = errors.Join(err, evictErr)
	}
	n.evictor.count(evictedForSpace, freed)
	if freed > 0 {
		n.log.Info("evicted cold ranges of what is mounted", "bytes", freed)
	}
	return freed, err
}

func (e *evictor) count(reason string, bytes int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.evicted[reason] += bytes
}

// problem is what is wrong with the disk now, or nil.
func (e *evictor) problem() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.full:
		return errFull
	case e.given:
		return errReserve
	}
	return nil
}

// What can be wrong with the disk.
var (
	errFull    = errors.New("the store's disk is full and all that is in the store is in use: readers of what is missing get errors until there is space")
	errReserve = errors.New("the store's disk is full: its reserve is in use")
)

// cacheStatus describes the cache for people and metrics.
func (n *Node) cacheStatus() (control.Cache, error) {
	s, err := n.space()
	if err != nil {
		return control.Cache{}, err
	}
	_, untracked := n.transports.fixed()
	e := n.evictor
	e.mu.Lock() // taken last: who waits for a write that finds no space may have others
	defer e.mu.Unlock()
	c := control.Cache{
		Bytes: s.cache, FreeBytes: s.free, TotalBytes: s.total, FreeFiles: s.freeFiles, Full: e.full, ReserveBytes: e.reserve.held,
		Untracked: len(untracked), Evicted: make(map[string]int64),
		HighBytes: e.limits.High.Bytes, LowBytes: e.limits.Low.Bytes, HighPercent: e.limits.High.Percent, LowPercent: e.limits.Low.Percent,
	}
	over := e.limits.excess(s)
	c.OverBytes, c.OverFiles = over.bytes, over.files
	for _, reason := range []string{evictedForSpace, evictedForReaders, evictedByRequest} {
		c.Evicted[reason] = e.evicted[reason]
	}
	return c, nil
}
