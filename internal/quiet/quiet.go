// Package quiet keeps what happens over and over from filling a log.
//
// It knows time and a count, not what is logged. The one idea to hold in mind: the first of a kind is told at once, and of those that follow one in a while, with how many there were.
package quiet

import (
	"sync"
	"time"
)

// Every is how often one and the same thing is told.
const Every = 10 * time.Second

// Limiter limits how often something is told. The zero value tells of the first. Its methods may be called concurrently.
type Limiter struct {
	mu     sync.Mutex
	next   time.Time
	untold int
}

// Tell reports whether to tell of what happens now, and how many such were not told of since the last one.
func (l *Limiter) Tell() (untold int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Before(l.next) {
		l.untold++
		return 0, false
	}
	untold, l.untold, l.next = l.untold, 0, now.Add(Every)
	return untold, true
}
