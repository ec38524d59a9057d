package fanotify

import (
	"errors"

	"github.com/pagein/pagein/ondemand"
)

// Evict gives back the space of up to want bytes of an attached blob, cold ranges first, while it may be mounted and read, and returns how much that was. It is
// none of a blob that is complete, or was once since it was mounted, whose reads may raise no events any more, and where reads are not tracked (see [Config]).
//
// It is sound because a reader is in the group's table of reads before its range is looked up (see group.take), and the frames are marked absent before the table is
// looked up: one of the two sees the other. A reader who is in the table keeps its range; one who comes later waits until the frames have been fetched again.
func (t *Transport) Evict(b *ondemand.Blob, want int64) (int64, error) {
	t.mu.Lock()
	m := t.blobs[b.ID()]
	t.mu.Unlock()
	if m == nil {
		return 0, nil
	}
	m.evicting.Lock()
	defer m.evicting.Unlock()
	if !t.evictable(m) {
		return 0, nil
	}
	// The group stays as long as the blob is open, and the blob as long as frames of it are discarded.
	freed, err := m.blob.Discard(want, func(off, n int64) bool { return m.group.journal.reads.idle(&m.id, off, n) })
	if errors.Is(err, ondemand.ErrUnbound) {
		return freed, nil // it is being detached
	}
	t.awaitCompletion(m)
	return freed, err
}

// evictable reports whether all reads of the blob's file raise events and are known. The caller holds m.evicting.
func (t *Transport) evictable(m *marked) bool {
	t.mu.Lock() // as long as it is attached, its group's journal is there
	defer t.mu.Unlock()
	return t.blobs[m.blob.ID()] == m && !m.unmarked && !m.deaf && m.group != nil && m.group.journal.reads != nil && m.group.journal.reads.tracked()
}

// Fixed returns the IDs of the attached blobs of which no range can be evicted before they are unmounted, although reads are to be tracked: whole ones are complete, or were once, and their
// reads raise no events any more; those of untracked ones are not tracked, or not all of them.
func (t *Transport) Fixed() (whole, untracked []string) {
	if !t.cfg.Track {
		return nil, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, m := range t.blobs {
		switch {
		case m.unmarked:
			whole = append(whole, id)
		case m.group != nil && (m.group.journal.reads == nil || !m.group.journal.reads.tracked()):
			untracked = append(untracked, id)
		}
	}
	return whole, untracked
}
