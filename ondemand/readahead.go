package ondemand

// firstAhead is how many blob bytes are fetched beyond a miss that continues nothing: about what a 200 Mbit/s link of 10 ms carries in one
// round trip, so a guess that fails costs no more than the miss itself.
const firstAhead = 256 << 10

// streams is how many sequential readers of one blob are told apart.
const streams = 8

// readAhead decides how many frames beyond a miss are fetched with it. A miss where an earlier fetch ended doubles that stream's window, up to
// Options.ReadAhead; any other miss starts a stream anew in place of the one idle for longest. It belongs to one blob and is guarded by its lock.
type readAhead struct {
	stream [streams]struct {
		next   int   // the frame after the last one fetched
		window int64 // bytes
		used   uint64
	}
	clock uint64
}

// extend returns the frames to fetch beyond missing, which is sorted and not empty. They follow its last frame, are absent and not on their way.
func (r *readAhead) extend(b *Blob, bound *binding, missing []int) []int {
	limit := b.engine.opts.ReadAhead
	if limit <= 0 {
		return nil
	}
	r.clock++
	first, end := missing[0], missing[len(missing)-1]+1
	oldest := &r.stream[0]
	for i := range r.stream {
		s := &r.stream[i]
		// A reader that skips a frame or two is still sequential.
		if s.used > 0 && first >= s.next && first <= s.next+2 {
			oldest = s
			oldest.window *= 2
			break
		}
		if s.used < oldest.used {
			oldest = s
		}
	}
	if s := oldest; s.used == 0 || first < s.next || first > s.next+2 {
		s.window = firstAhead
	}
	oldest.window = min(oldest.window, limit)

	var more []int
	for left := oldest.window; end < b.m.Frames(); end++ {
		if left -= b.m.Frame(end).Len; left < 0 || bound.presence.Has(end) || b.inflight[end] != nil {
			break
		}
		more = append(more, end)
	}
	oldest.next, oldest.used = end, r.clock
	return more
}
