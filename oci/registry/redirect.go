package registry

import (
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

const (
	// defaultLife is how long a redirect is remembered that does not say how long it holds. Should it end earlier, the registry is asked again.
	defaultLife = 5 * time.Minute
	// maxLife bounds how long a redirect is remembered.
	maxLife = time.Hour
	// margin is how long before its end a redirect is not used any more.
	margin = 10 * time.Second
	// lackLife is how long a blob that an endpoint does not have, or has not rightly, is not asked for there.
	lackLife = time.Minute
	// maxNotes bounds what is remembered.
	maxNotes = 8192
)

// note is what was learnt of a blob at an endpoint.
type note struct {
	target *url.URL // where it is, or nil
	lacks  error    // why it cannot be had there, or nil
	until  time.Time
}

// notes remembers where blobs are, by the URL that an endpoint has for them. Its methods may be called concurrently.
type notes struct {
	mu sync.Mutex
	m  map[string]note
}

// get returns what is known, which may be nothing.
func (n *notes) get(blob string) note {
	n.mu.Lock()
	defer n.mu.Unlock()
	known, ok := n.m[blob]
	if ok && time.Now().After(known.until) {
		delete(n.m, blob)
		return note{}
	}
	return known
}

func (n *notes) set(blob string, known note) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.m == nil {
		n.m = make(map[string]note)
	}
	if len(n.m) >= maxNotes {
		n.shrink()
	}
	n.m[blob] = known
}

func (n *notes) forget(blob string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.m, blob)
}

// shrink makes room: what is over goes, and if that is nothing, anything. The caller holds n.mu.
func (n *notes) shrink() {
	now := time.Now()
	for k, v := range n.m {
		if now.After(v.until) {
			delete(n.m, k)
		}
	}
	for k := range n.m {
		if len(n.m) < maxNotes {
			return
		}
		delete(n.m, k)
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

// expired reports whether what a remembered target answers may mean that the redirect does not hold any more.
func expired(code int) bool {
	switch code {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	}
	return false
}
