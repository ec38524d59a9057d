package fanotify

import (
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
	if m.unmarked || m.deaf || m.group == nil || m.group.journal.reads == nil || !m.group.journal.reads.tracked() {
		return 0, nil
	}
	freed, err := m.blob.Discard(want, func(off, n int64) bool { return m.group.journal.reads.idle(&m.id, off, n) })
	t.awaitCompletion(m)
	if m.blob.Complete() { // it became so before the line above
		go t.completed(m)
	}
	return freed, err
}
