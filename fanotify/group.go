package fanotify

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// group is one fanotify group with its journal. One goroutine reads it.
type group struct {
	t       *Transport
	number  int
	fd      int
	journal *journal
	free    chan int // slots that hold no event
	event   int      // eventfd that ends the loop
	orphans []orphan // events that a predecessor has read and not answered
	members int      // blobs in the group, guarded by t.mu
	served  bool     // a goroutine reads it, guarded by t.mu
}

// Names under which descriptors are held.
const (
	heldPrefix    = "fanotify-"
	groupPrefix   = heldPrefix + "group-"   // and the group's number
	journalPrefix = heldPrefix + "journal-" // and the group's number
	blobPrefix    = heldPrefix + "blob-"    // and the blob's ID
)

func groupName(n int) string    { return groupPrefix + strconv.Itoa(n) }
func journalName(n int) string  { return journalPrefix + strconv.Itoa(n) }
func blobName(id string) string { return blobPrefix + id }

// Owns reports whether a held descriptor of that name is this package's.
func Owns(heldName string) bool { return strings.HasPrefix(heldName, heldPrefix) }

// groupOf is the number of the group that a blob belongs to.
func groupOf(blobID string) int { return int(rawID(blobID)[0]) % groups }

// rawID is the binary form of a blob ID, which a blob map has made valid.
func rawID(id string) (raw [32]byte) {
	b, _ := hex.DecodeString(id)
	copy(raw[:], b)
	return raw
}

// group returns the group of that number, making it if there is none. The caller holds t.mu.
func (t *Transport) group(n int) (*group, error) {
	if g := t.groups[n]; g != nil {
		return g, nil
	}
	if _, held := t.adopted[groupName(n)]; held {
		// To hold another one under its name would let it go, and its readers with it.
		return nil, fmt.Errorf("fanotify group %d of an earlier pageind could not be taken up: unmount what that has mounted", n)
	}
	if t.serving != nil && t.serving.Err() != nil {
		return nil, fmt.Errorf("make fanotify group: %w", context.Cause(t.serving))
	}
	// An unlimited queue, because the kernel lets a read pass unanswered when a bounded one is full.
	flags := uint(unix.FAN_CLASS_PRE_CONTENT | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | unix.FAN_UNLIMITED_QUEUE | unix.FAN_UNLIMITED_MARKS)
	if t.cfg.Track {
		flags |= unix.FAN_REPORT_TID
	}
	fd, err := unix.FanotifyInit(flags, unix.O_RDONLY|unix.O_LARGEFILE|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make fanotify group: %w", err)
	}
	j, err := newJournal(t.cfg.Track)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	g, err := t.newGroup(n, fd, j)
	if err != nil {
		return nil, err
	}
	for name, fd := range map[string]int{groupName(n): fd, journalName(n): j.fd} {
		if err := t.cfg.Holder.Hold(name, fd); err != nil {
			return nil, errors.Join(fmt.Errorf("have fanotify group held: %w", err), t.dropGroup(g))
		}
	}
	if t.serving != nil {
		t.start(g)
	}
	return g, nil
}

// start makes a goroutine serve the group. The caller holds t.mu.
func (t *Transport) start(g *group) {
	g.served = true
	t.running.Go(func() { g.serve(t.serving) })
}

// newGroup wires a group up; fd and the journal belong to it, also when it fails.
func (t *Transport) newGroup(n, fd int, j *journal) (*group, error) {
	event, err := highEventfd()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make eventfd: %w", err), j.close(), unix.Close(fd))
	}
	g := &group{t: t, number: n, fd: fd, journal: j, event: event, free: make(chan int, slots)}
	for i := range slots {
		if !j.slot(i).live() {
			g.free <- i
		}
	}
	t.groups[n] = g
	return g, nil
}

// highEventfd makes an eventfd with a number that no event can have. One that the group's end gives back could be the number of an event that is still
// owed an answer.
func highEventfd() (int, error) {
	low, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, err
	}
	high, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, FirstDescriptor)
	return high, errors.Join(err, unix.Close(low))
}

// dropGroup gives up a group that no blob is in any more. The caller holds t.mu.
func (t *Transport) dropGroup(g *group) error {
	delete(t.groups, g.number)
	err := errors.Join(t.cfg.Holder.Release(groupName(g.number)), t.cfg.Holder.Release(journalName(g.number)))
	if !g.served {
		return errors.Join(err, g.close())
	}
	g.wake() // its loop closes it
	return err
}

func (g *group) mark(flags uint, fd int) error {
	mask := uint64(unix.FAN_PRE_ACCESS)
	if g.journal.reads != nil {
		mask |= unix.FAN_ACCESS
	}
	return unix.FanotifyMark(g.fd, flags, mask, fd, "")
}

// marked reports whether a file has a mark in the group. All files that have some are on the store's disk.
func (g *group) marked(file inode) (bool, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", g.fd))
	if err != nil {
		return false, fmt.Errorf("list the marks of fanotify group %d: %w", g.number, err)
	}
	return bytes.Contains(b, fmt.Appendf(nil, "fanotify ino:%x ", file.ino)), nil
}

// wake ends the loop of serve.
func (g *group) wake() {
	// The write cannot fail: the counter is far from full.
	_, _ = unix.Write(g.event, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (g *group) close() error {
	return errors.Join(g.journal.close(), unix.Close(g.fd), unix.Close(g.event))
}

// serve reads and answers events until the group is woken up.
func (g *group) serve(ctx context.Context) {
	for _, o := range g.orphans {
		g.t.running.Go(func() { g.settle(ctx, o) })
	}
	g.orphans = nil
	for {
		var i int
		select {
		case i = <-g.free:
		case <-ctx.Done():
			return
		}
		s := g.journal.slot(i)
		n, err := unix.Read(g.fd, s.buffer())
		switch {
		case err == nil:
			g.take(ctx, i, s[:n])
			continue
		case err == unix.EAGAIN:
			g.free <- i
			if g.woken() {
				g.retire(ctx)
				return
			}
		case err == unix.EINTR:
			g.free <- i
		default:
			// The kernel has denied the event that it could not deliver, for want of a descriptor say.
			g.free <- i
			g.t.cfg.Log.Error("read fanotify event: its reader got an error", "err", err)
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// retire closes a group that has been dropped while it was served. When the whole transport stops, Close does that.
func (g *group) retire(ctx context.Context) {
	for range slots { // events of the last moments are still being answered
		select {
		case <-g.free:
		case <-ctx.Done():
			return
		}
	}
	if err := g.close(); err != nil {
		g.t.cfg.Log.Warn("close fanotify group", "err", err)
	}
}

// woken waits for an event or the end, and reports the latter.
func (g *group) woken() bool {
	p := []unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}, {Fd: int32(g.event), Events: unix.POLLIN}}
	if _, err := unix.Poll(p, -1); err != nil {
		return false
	}
	return p[1].Revents != 0
}

// take handles the event in slot i: at once if its bytes are there, else in a goroutine.
func (g *group) take(ctx context.Context, i int, b []byte) {
	b, second := cut(b)
	if ev, ok := g.settleSecond(second); ok {
		unix.Close(int(ev.fd)) // its number cannot be given to another event before the slot is free: events are read here only
	}
	ev, err := parseEvent(b)
	if err != nil {
		g.t.cfg.Log.Error("event is denied", "err", err)
		g.reply(i, ev.fd, unix.FAN_DENY)
		return
	}
	if ev.over {
		g.over(i, ev)
		return
	}
	m := g.lookup(ev)
	if m == nil {
		g.t.cfg.Log.Error("event for a file that is no attached blob is denied", "offset", ev.off, "bytes", ev.n)
		g.reply(i, ev.fd, unix.FAN_DENY)
		return
	}
	if g.journal.reads != nil {
		g.journal.reads.begin(ev.tid, &m.id, ev.off, ev.n)
	}
	g.journal.slot(i).name(&m.id)
	switch {
	case ev.n == 0: // somebody wants to truncate the file
		g.reply(i, ev.fd, unix.FAN_DENY)
	case ev.off >= m.blob.Size() || m.blob.Has(ev.off, ev.n):
		g.reply(i, ev.fd, unix.FAN_ALLOW)
	default:
		g.t.running.Go(func() {
			if verdict, ok := g.fill(ctx, m, ev); ok {
				g.reply(i, ev.fd, verdict)
			}
		})
	}
}

// settleSecond does what is to be done about an event that shares a slot with another: it says that a read is over, or asks to truncate a file. It reports whether there is one.
func (g *group) settleSecond(b []byte) (ev event, ok bool) {
	if b == nil {
		return event{}, false
	}
	ev, err := parseEvent(b)
	switch {
	case err == nil && ev.over && g.journal.reads != nil:
		g.journal.reads.end(ev.tid)
	case err == nil && ev.over:
	default:
		if err := errors.Join(err, answer(g.fd, ev.fd, unix.FAN_DENY)); err != nil {
			g.t.cfg.Log.Error("event is denied", "err", err)
		}
	}
	return ev, ev.fd >= 0
}

// over notes that a read is over and gives the slot back.
func (g *group) over(i int, ev event) {
	if g.journal.reads != nil {
		g.journal.reads.end(ev.tid)
	}
	g.release(i, ev.fd)
}

func (g *group) lookup(ev event) *marked {
	ino, err := inodeOf(int(ev.fd))
	if err != nil {
		return nil
	}
	m, ok := g.t.inodes.Load(ino)
	if !ok {
		return nil
	}
	return m.(*marked)
}

// fill has the event's range brought and returns the answer. Without ok there is none: we are stopping, and the event stays in the journal, and
// its descriptor open, for a successor.
func (g *group) fill(ctx context.Context, m *marked, ev event) (verdict uint32, ok bool) {
	err := m.blob.Fill(ctx, ev.off, ev.n)
	switch {
	case err == nil:
		return unix.FAN_ALLOW, true
	case ctx.Err() != nil:
		return 0, false
	}
	if untold, ok := m.denials.Tell(); ok {
		g.t.cfg.Log.Error("reader gets an error", "blob", m.blob.ID(), "offset", ev.off, "bytes", ev.n, "earlier", untold, "err", err)
	}
	return unix.FAN_DENY, true
}

// reply answers an event and gives its slot and its descriptor back.
func (g *group) reply(i int, fd int32, verdict uint32) {
	if err := answer(g.fd, fd, verdict); err != nil {
		g.t.cfg.Log.Error("reader stays blocked", "err", err)
	}
	g.release(i, fd)
}

// release gives an event's slot and its descriptor back, in the order that slot.free demands.
func (g *group) release(i int, fd int32) {
	g.journal.slot(i).free()
	unix.Close(int(fd))
	g.free <- i
}
