package fanotify

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// orphan is an event that a predecessor has read and may not have answered. The kernel knows it by the number that its descriptor had there.
type orphan struct {
	slot     int
	ev       event
	blob     string // ID, or "" when the predecessor died before it could say
	reserved bool   // the number is taken by our /dev/null, to be closed
}

// adoptGroups takes up the groups and journals in t.adopted, and reserves the numbers of their orphans: the kernel could give such a number to a new
// event, and the answer to one would then go to the other.
func (t *Transport) adoptGroups() error {
	for name, fd := range t.adopted {
		num, ok := strings.CutPrefix(name, groupPrefix)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(num)
		if err != nil || n < 0 || n >= groups {
			return fmt.Errorf("held descriptor %q: no such group", name)
		}
		jfd, ok := t.adopted[journalName(n)]
		if !ok {
			// Whatever is marked in it cannot be served without knowing which events are owed an answer. Held, it lets nobody read.
			continue
		}
		j, err := adoptJournal(jfd)
		if err != nil {
			return err
		}
		g, err := t.newGroup(n, fd, j)
		if err != nil {
			return err
		}
		delete(t.adopted, name)
		delete(t.adopted, journalName(n))
		if err := g.findOrphans(); err != nil {
			return err
		}
	}
	return nil
}

func (g *group) findOrphans() error {
	for i := range slots {
		s := g.journal.slot(i)
		if !s.live() {
			continue
		}
		// What the kernel wrote it wrote whole: the slot was empty before and its memory is locked. An event that cannot be understood is denied all the same.
		b, second := cut(s[:slotEvent])
		g.settleSecond(second) // no event of ours can have its number yet
		ev, err := parseEvent(b)
		if err != nil {
			g.t.cfg.Log.Error("orphaned event will be denied", "err", err)
			ev.n = 0
		}
		if ev.over {
			if g.journal.reads != nil {
				g.journal.reads.end(ev.tid)
			}
			s.free()
			g.free <- i
			continue
		}
		o := orphan{slot: i, ev: ev}
		id, named := s.named()
		if named {
			o.blob = hex.EncodeToString(id[:])
		}
		if g.journal.reads != nil { // with an ID of zeros, it may be in any blob
			g.journal.reads.begin(ev.tid, &id, ev.off, ev.n)
		}
		if o.reserved, err = g.reserve(int(ev.fd)); err != nil {
			return err
		}
		g.orphans = append(g.orphans, o)
	}
	return nil
}

// reserve makes sure that no event gets the number fd. A number that this process uses already is as good, for such descriptors stay open.
func (g *group) reserve(fd int) (bool, error) {
	if fd < 0 {
		return false, nil
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
		return false, nil
	}
	if err := unix.Dup3(int(g.t.null.Fd()), fd, unix.O_CLOEXEC); err != nil {
		return false, fmt.Errorf("reserve descriptor %d for an unanswered event: %w", fd, err)
	}
	return true, nil
}

// ReleaseUnclaimed gives up what a predecessor left for images that are mounted no more, or not yet. It is called before Serve, and only by who knows that every image
// that is mounted has been attached.
func (t *Transport) ReleaseUnclaimed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs error
	for name, fd := range t.adopted {
		delete(t.adopted, name)
		errs = errors.Join(errs, t.unmarkUnclaimed(name, fd), t.cfg.Holder.Release(name), unix.Close(fd))
	}
	for _, g := range t.groups {
		if g.members == 0 {
			errs = errors.Join(errs, t.dropGroup(g))
		}
	}
	return errs
}

// unmarkUnclaimed takes the mark off a blob that nobody reads, if the descriptor of that name is one of a blob. Who opens its file later to write to it would else raise events, which only he can answer.
func (t *Transport) unmarkUnclaimed(name string, fd int) error {
	id, ok := strings.CutPrefix(name, blobPrefix)
	if !ok || t.groups[groupOf(id)] == nil {
		return nil // the mark, if there was one, has gone with its group
	}
	if err := t.groups[groupOf(id)].mark(unix.FAN_MARK_REMOVE, fd); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("take the mark off blob %s: %w", id, err)
	}
	return nil
}

// settle brings what an orphan asked for and answers it.
func (g *group) settle(ctx context.Context, o orphan) {
	verdict := uint32(unix.FAN_ALLOW)
	asked, all := g.asked(o)
	if o.ev.n == 0 || !all {
		verdict = unix.FAN_DENY
	}
	for _, m := range asked {
		if o.ev.n == 0 || o.ev.off >= m.blob.Size() {
			continue
		}
		v, ok := g.fill(ctx, m, o.ev)
		if !ok {
			return
		}
		verdict = max(verdict, v) // FAN_DENY is the larger
	}
	if err := answer(g.fd, o.ev.fd, verdict); err != nil {
		g.t.cfg.Log.Error("orphaned reader stays blocked", "err", err)
	}
	g.journal.slot(o.slot).free()
	if o.reserved {
		unix.Close(int(o.ev.fd))
	}
	g.free <- o.slot
}

// asked returns the blobs that the orphan can be about: the one that is recorded, else every one in the group. all says that none of these is missing.
func (g *group) asked(o orphan) (asked []*marked, all bool) {
	g.t.mu.Lock()
	defer g.t.mu.Unlock()
	for id, m := range g.t.blobs {
		if m.group == g && (o.blob == "" || o.blob == id) {
			asked = append(asked, m)
		}
	}
	if o.blob != "" {
		return asked, len(asked) == 1
	}
	for name := range g.t.adopted {
		if id, ok := strings.CutPrefix(name, blobPrefix); ok && groupOf(id) == g.number {
			return asked, false
		}
	}
	return asked, len(asked) > 0
}
