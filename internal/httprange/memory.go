package httprange

import (
	"net/url"
	"strconv"
	"sync"
	"time"
)

const (
	// defaultLife is how long a redirect is remembered that does not say how long it holds. Should it end earlier, who redirected is asked again.
	defaultLife = 5 * time.Minute
	// maxLife bounds how long a redirect is remembered.
	maxLife = time.Hour
	// margin is how long before its end a redirect is not used any more.
	margin = 10 * time.Second
	// lackLife is how long what a server does not have, or has not rightly, is not asked for there.
	lackLife = time.Minute
	// maxNotes bounds what is remembered.
	maxNotes = 8192
)

// Memory remembers of URLs where they redirect to and what cannot be had there. The zero value is empty; its methods may be called concurrently.
type Memory struct {
	mu sync.Mutex
	m  map[string]note
}

// note is what was learnt of a URL.
type note struct {
	target *url.URL // where it redirects to, or nil
	lacks  error    // why it cannot be had there, or nil
	until  time.Time
}

// Lacks notes why what is at u cannot be had there: for a minute nobody asks. What is noted already is not prolonged.
func (m *Memory) Lacks(u *url.URL, why error) {
	if m.get(u.String()).lacks != nil {
		return
	}
	m.set(u.String(), note{lacks: why, until: time.Now().Add(lackLife)})
}

// Forget has u asked itself the next time.
func (m *Memory) Forget(u *url.URL) { m.forget(u.String()) }

// get returns what is known, which may be nothing.
func (m *Memory) get(key string) note {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.m[key]
	if ok && time.Now().After(known.until) {
		delete(m.m, key)
		return note{}
	}
	return known
}

func (m *Memory) set(key string, known note) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil {
		m.m = make(map[string]note)
	}
	if len(m.m) >= maxNotes {
		m.shrink()
	}
	m.m[key] = known
}

func (m *Memory) forget(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.m, key)
}

// shrink makes room: what is over goes, and if that is nothing, anything. The caller holds m.mu.
func (m *Memory) shrink() {
	now := time.Now()
	for k, v := range m.m {
		if now.After(v.until) {
			delete(m.m, k)
		}
	}
	for k := range m.m {
		if len(m.m) < maxNotes {
			return
		}
		delete(m.m, k)
	}
}

// lifeOf returns how long a redirect to u can be used, as the signature in u says.
func lifeOf(u *url.URL, now time.Time) time.Duration {
	q := u.Query()
	for _, prefix := range []string{"X-Amz-", "X-Goog-"} {
		signed, err := time.Parse("20060102T150405Z", q.Get(prefix+"Date"))
		seconds, err2 := strconv.ParseUint(q.Get(prefix+"Expires"), 10, 31)
		if err == nil && err2 == nil {
			return bounded(signed.Add(time.Duration(seconds) * time.Second).Sub(now))
		}
	}
	if at, err := strconv.ParseInt(q.Get("Expires"), 10, 64); err == nil { // S3 before version 4, OSS, CloudFront
		return bounded(time.Unix(at, 0).Sub(now))
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z"} { // Azure's shared access signatures
		if at, err := time.Parse(layout, q.Get("se")); err == nil {
			return bounded(at.Sub(now))
		}
	}
	return defaultLife
}

func bounded(d time.Duration) time.Duration {
	return min(max(d-margin, 0), maxLife)
}
