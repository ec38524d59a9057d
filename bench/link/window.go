package link

import "time"

const (
	// mss is what one TCP segment carries on Ethernet with timestamps, in bytes (RFC 9293, RFC 7323).
	mss = 1448
	// initialWindow is how much a connection may send before the first acknowledgement, in bytes: ten segments (RFC 6928).
	initialWindow = 10 * mss
	// maxWindow is where growth ends, in bytes: Linux's default limit of a connection's send buffer (tcp_wmem).
	maxWindow = 4 << 20
)

// window is a sender's congestion window: it grows by what was acknowledged, one round-trip time after it left, as in slow start. Nothing
// is ever lost on a link, so it never shrinks. It belongs to one goroutine. The zero value is a new connection's.
type window struct {
	acked    int // bytes acknowledged so far: how much the window has grown
	inFlight int // bytes sent and not acknowledged
	acks     []ack
}

// ack is an acknowledgement under way.
type ack struct {
	at time.Time
	n  int
}

// ready returns when n bytes may be sent: now or earlier if at once, else at the next acknowledgement, after which to ask again.
func (w *window) ready(now time.Time, n int) time.Time {
	for len(w.acks) > 0 && !w.acks[0].at.After(now) {
		w.inFlight -= w.acks[0].n
		w.acked += w.acks[0].n
		w.acks = w.acks[1:]
	}
	if w.inFlight == 0 || w.inFlight+n <= min(initialWindow+w.acked, maxWindow) {
		return now
	}
	return w.acks[0].at
}

// sent notes that n bytes are on their way and will be acknowledged at the given time, which never goes back between calls.
func (w *window) sent(n int, acked time.Time) {
	w.inFlight += n
	w.acks = append(w.acks, ack{acked, n})
}
