// Package fanotify is the transport for kernels ≥ 6.14: EROFS mounted from files, whose blobs are sparse files in the store that carry a
// FAN_PRE_ACCESS mark. A read of a range that EROFS has not cached raises an event on the blob file and waits for our answer.
//
// It knows the fanotify protocol and the store's blob files, and nothing of where bytes come from. The one idea to hold in mind: this protocol fails
// open. When the last descriptor of a group is closed, or an event is answered before its range is filled, readers see zeros and no error. Hence three
// rules. Every group, its journal and every marked blob's descriptor are with a holder in another process before the mark is made. The
// kernel itself writes each event into a journal that outlives us (see journal.go). No answer says ALLOW before the engine said that the bytes are in place.
package fanotify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/internal/quiet"
	"github.com/pagein/pagein/ondemand"
	"github.com/pagein/pagein/ondemand/store"
)

// groups is the most fanotify groups that are made. The system's limit is 128 for each user (fs.fanotify.max_user_groups), root included.
const groups = 32

// Config is what a transport is made of. All fields are required but Adopted.
type Config struct {
	Store  *store.Store
	Holder ondemand.Holder
	// Adopted are the descriptors that the holder kept from a predecessor, by name; those whose names this package gave (see [Owns]) now belong to the transport. They must have
	// numbers from [FirstDescriptor] on.
	Adopted map[string]int
	// Track has the kernel tell when reads are over, which [Transport.Evict] needs. It costs a second event for each read of what a blob file has. It counts for
	// blobs whose group is made from now on.
	Track bool
	Log   *slog.Logger
}

// FirstDescriptor is a number above any that an event of a predecessor can have. Descriptors that live across the adoption must not be below, where they could
// take the number of an event whose answer is still owed.
const FirstDescriptor = groups*slots + 1024

// Transport implements [ondemand.Transport].
type Transport struct {
	cfg  Config
	null *os.File // /dev/null, whose duplicates reserve numbers

	mu      sync.Mutex
	adopted map[string]int     // held descriptors that nobody has asked for yet
	taking  bool               // until Serve: a predecessor's marks are being taken up, and nothing of them may get lost
	groups  map[int]*group     // by number, 0..groups-1
	blobs   map[string]*marked // by blob ID
	lost    bool               // a predecessor's marks may guard an image that could not be attached: they and the groups stay
	images  map[string]bool    // by image ID
	serving context.Context    // set by Serve
	running sync.WaitGroup     // the groups' loops and what they started

	inodes sync.Map // inode → *marked, for the groups' loops
}

var _ ondemand.Transport = (*Transport)(nil)

// marked is a blob that at least one mounted image uses.
type marked struct {
	blob   *ondemand.Blob
	id     [32]byte // the blob's, in binary
	frames int
	file   *store.Blob
	inode  inode
	group  *group // nil for a blob that was complete from the start
	users  int

	denials quiet.Limiter // errors that readers got

	evicting sync.Mutex // held while frames are discarded; taken before t.mu
	unmarked bool       // the file has no mark any more, written with evicting and t.mu held
	deaf     bool       // the kernel may have opened it while it had no mark, or read it while nobody listened

	held int // descriptor from the holder, which the holder's client may give away again; -1 if there is none
}

// New returns a transport that has taken up what its predecessor left with the holder. It reserves the numbers of the events that are still owed
// an answer, so it must be called before the process opens descriptors that it will close again.
func New(cfg Config) (*Transport, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("start fanotify transport: %w", err)
	}
	t := &Transport{
		cfg: cfg, null: null,
		adopted: make(map[string]int), groups: make(map[int]*group), blobs: make(map[string]*marked), images: make(map[string]bool),
	}
	for name, fd := range cfg.Adopted {
		if Owns(name) {
			t.adopted[name] = fd
			t.taking = true
		}
	}
	if err := t.adoptGroups(); err != nil {
		return nil, fmt.Errorf("take up fanotify groups: %w", err)
	}
	return t, nil
}

// Name returns "fanotify".
func (t *Transport) Name() string { return "fanotify" }

// Attach marks the image's incomplete blobs and returns how to mount it.
func (t *Transport) Attach(_ context.Context, img *ondemand.Image) (kmount.EROFS, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.images[img.ID] {
		return kmount.EROFS{}, fmt.Errorf("attach image %s: it is attached already", img.ID)
	}
	spec := kmount.EROFS{Source: img.MetaPath}
	for i, b := range img.Blobs {
		if err := t.attachBlob(b, img.Mounted); err != nil {
			t.lost = t.lost || t.taking
			for _, b := range img.Blobs[:i] {
				if t.blobs[b.ID()].users == 1 {
					b.Close()
				}
				err = errors.Join(err, t.detachBlob(b.ID()))
			}
			return kmount.EROFS{}, fmt.Errorf("attach image %s: %w", img.ID, err)
		}
		spec.Devices = append(spec.Devices, t.cfg.Store.BlobPath(b.ID()))
	}
	t.images[img.ID] = true
	return spec, nil
}

func (t *Transport) attachBlob(b *ondemand.Blob, mounted bool) error {
	if m := t.blobs[b.ID()]; m != nil {
		if m.blob != b {
			return fmt.Errorf("blob %s is attached as another object", b.ID())
		}
		m.users++
		return nil
	}
	m := &marked{blob: b, id: rawID(b.ID()), frames: b.Map().Frames(), users: 1, held: -1}
	if err := t.openFile(m); err != nil {
		return err
	}
	if err := t.guard(m, mounted); err != nil {
		b.Close()
		return errors.Join(err, t.letGo(m))
	}
	t.blobs[b.ID()] = m
	return nil
}

// openFile opens the blob's file. Of a marked file the predecessor's descriptor must be used: another would raise events when we write.
func (t *Transport) openFile(m *marked) (err error) {
	id, size, frames := m.blob.ID(), m.blob.Size(), m.blob.Map().Frames()
	held, ok := t.adopted[blobName(id)]
	if !ok {
		m.file, err = t.cfg.Store.OpenBlob(id, size, frames)
		return err
	}
	fd, err := unix.FcntlInt(uintptr(held), unix.F_DUPFD_CLOEXEC, FirstDescriptor)
	if err != nil {
		return fmt.Errorf("duplicate the held descriptor of blob %s: %w", id, err)
	}
	if m.file, err = t.cfg.Store.AdoptBlob(fd, id, size, frames); err != nil {
		return err
	}
	delete(t.adopted, blobName(id))
	m.held = held
	return nil
}

// guard binds the blob to its file and, unless the blob is complete, puts the mark on the file that makes readers wait.
func (t *Transport) guard(m *marked, mounted bool) (err error) {
	id, n := m.blob.ID(), groupOf(m.blob.ID())
	m.blob.Bind(m.file, m.file.Presence())
	if m.inode, err = inodeOf(m.file.Fd()); err != nil {
		return err
	}
	// Without a mark nobody would fetch again what a failing disk loses, so what is complete must be durable before it goes without.
	complete := m.blob.Complete() && (m.held >= 0 || m.file.Checkpoint() == nil && m.blob.Complete())
	switch {
	case complete && m.held < 0:
		m.unmarked = true
		return nil
	case !complete && t.taking && (m.held < 0 || t.groups[n] == nil):
		return fmt.Errorf("blob %s: %w: its descriptors were not held", id, ondemand.ErrUnguarded)
	}
	if m.group, err = t.group(n); err != nil {
		return err
	}
	m.group.members++
	t.inodes.Store(m.inode, m)
	if mounted {
		marked, err := m.group.marked(m.inode)
		if err != nil {
			return err
		}
		if m.deaf = !marked; m.deaf && complete {
			m.unmarked = true
			return nil
		}
		if m.deaf && m.group.journal.reads != nil {
			m.group.journal.reads.lose() // with the mark that follows, a successor could not tell
		}
	}
	t.awaitCompletion(m) // it may be complete: a predecessor has died between the last frame and this
	if m.held < 0 {
		if err := t.cfg.Holder.Hold(blobName(id), m.file.Fd()); err != nil {
			return fmt.Errorf("have blob %s held: %w", id, err)
		}
	}
	// A descriptor raises events only when it was opened after a mark was set, so ours, opened before, never does; and the kernel's, opened by the mount
	// that follows, always will. A mark that is there already stays as it is.
	if err := m.group.mark(unix.FAN_MARK_ADD, m.file.Fd()); err != nil {
		return fmt.Errorf("mark blob %s: %w", id, err)
	}
	return nil
}

// letGo undoes attachBlob. While a predecessor's marks are being taken up it leaves all that the kernel knows as it is: readers then wait, or get
// errors, and see nothing wrong.
func (t *Transport) letGo(m *marked) error {
	id := m.blob.ID()
	var err error
	keep := t.taking || t.lost && m.held >= 0
	if m.group != nil {
		t.inodes.Delete(m.inode)
		m.group.members--
		if !keep {
			err = errors.Join(t.unmark(m), t.cfg.Holder.Release(blobName(id)))
		}
		if m.group.members == 0 && !t.taking && !t.lost {
			err = errors.Join(err, t.dropGroup(m.group))
		}
	}
	switch {
	case m.held < 0:
	case keep:
		t.adopted[blobName(id)] = m.held
	default:
		if m.group == nil {
			err = errors.Join(err, t.cfg.Holder.Release(blobName(id)))
		}
		err = errors.Join(err, unix.Close(m.held))
	}
	return errors.Join(err, m.file.Close())
}

// awaitCompletion has the mark dropped when the blob is complete.
func (t *Transport) awaitCompletion(m *marked) {
	m.blob.OnComplete(func() { go t.completed(m) }) // t.mu may be held by who waits in b.Close for this very fetch
	if m.blob.Complete() {                          // it became so before
		go t.completed(m)
	}
}

// completed drops the mark of a blob whose last frame is in place: from now on its reads cost nothing, and nothing of it may be evicted.
func (t *Transport) completed(m *marked) {
	m.evicting.Lock()
	defer m.evicting.Unlock()
	// All must be durable before: without a mark, nobody would fetch again what a failing disk loses.
	file, err := t.share(m)
	if err != nil || file == nil {
		return
	}
	err = errors.Join(file.Checkpoint(), file.Close())
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.blobs[m.blob.ID()] != m || m.unmarked {
		return
	}
	if !m.blob.Complete() { // some of it has been evicted, or lost, and will be fetched again
		t.awaitCompletion(m)
		return
	}
	if err == nil {
		err = t.unmark(m)
	}
	if err != nil {
		t.cfg.Log.Warn("mark of complete blob stays", "blob", m.blob.ID(), "err", err)
		return
	}
	m.unmarked = true
}

// share opens the blob's file once more, so that it stays open when the blob is detached meanwhile. It returns nil for a blob that is detached already.
func (t *Transport) share(m *marked) (*store.Blob, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.blobs[m.blob.ID()] != m {
		return nil, nil
	}
	return t.cfg.Store.OpenBlob(m.blob.ID(), m.blob.Size(), m.blob.Map().Frames())
}

func (t *Transport) unmark(m *marked) error {
	err := m.group.mark(unix.FAN_MARK_REMOVE, m.file.Fd())
	if errors.Is(err, unix.ENOENT) {
		err = nil // there is no mark
	}
	return err
}

// Plain reports whether none of the image's blobs has a mark any more. A complete blob never gets one again before it has been detached.
func (t *Transport) Plain(img *ondemand.Image) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !slices.ContainsFunc(img.Blobs, func(b *ondemand.Blob) bool {
		m := t.blobs[b.ID()]
		return m == nil || !m.unmarked
	})
}

// Detach takes the marks off the blobs that no other attached image uses, and closes their files. The blobs themselves must be closed before.
func (t *Transport) Detach(_ context.Context, img *ondemand.Image) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.images[img.ID] {
		return nil
	}
	delete(t.images, img.ID)
	var errs error
	for _, b := range img.Blobs {
		errs = errors.Join(errs, t.detachBlob(b.ID()))
	}
	if errs != nil {
		return fmt.Errorf("detach image %s: %w", img.ID, errs)
	}
	return nil
}

func (t *Transport) detachBlob(id string) error {
	m := t.blobs[id]
	if m.users--; m.users > 0 {
		return nil
	}
	delete(t.blobs, id)
	return t.letGo(m)
}

// Serve answers the kernel until ctx is done. Events that are then still unanswered stay in the journal, for a successor.
func (t *Transport) Serve(ctx context.Context) error {
	t.mu.Lock()
	t.serving, t.taking = ctx, false
	for name := range t.adopted {
		// Something may still be mounted that we cannot serve. Its reads fail as long as the descriptors are held; without them they would return zeros.
		t.cfg.Log.Warn("a held descriptor belongs to no known image; it stays held", "name", name)
		t.lost = true
	}
	for g := range maps.Values(t.groups) {
		t.start(g)
	}
	t.mu.Unlock()

	<-ctx.Done()
	t.mu.Lock()
	for g := range maps.Values(t.groups) {
		g.wake()
	}
	t.mu.Unlock()
	t.running.Wait()
	return nil
}

// finish drops the mark of a blob that became complete in the last moments: nobody need wait for a successor to read it. The caller holds t.mu.
func (t *Transport) finish(m *marked) {
	complete := func() bool { return m.file.Presence().Count() == m.frames }
	if m.group == nil || m.unmarked || !complete() || m.file.Checkpoint() != nil || !complete() {
		return
	}
	if err := t.unmark(m); err != nil {
		t.cfg.Log.Warn("mark of complete blob stays", "blob", m.blob.ID(), "err", err)
	}
}

// Close closes the transport's descriptors and records what is present in the blob files. It is called after Serve has returned and the blobs have
// been closed.
func (t *Transport) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs error
	for m := range maps.Values(t.blobs) {
		t.finish(m)
		errs = errors.Join(errs, m.file.Close())
		if m.held >= 0 {
			errs = errors.Join(errs, unix.Close(m.held))
		}
	}
	clear(t.blobs)
	for g := range maps.Values(t.groups) {
		errs = errors.Join(errs, g.close())
	}
	return errors.Join(errs, t.null.Close())
}
