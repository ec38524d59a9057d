package control

import (
	"fmt"
	"time"
)

// Words of a [Policy].
const (
	waitForever  = "wait"
	prefetchNone = "none"
	prefetchAll  = "all"
)

// ParseDeadline reads how long readers wait for bytes that cannot be had: a positive duration, or "wait", which is a negative one.
func ParseDeadline(s string) (time.Duration, error) {
	if s == waitForever {
		return -1, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("deadline %q is neither a time such as 30s nor %q", s, waitForever)
	}
	return d, nil
}

// NewPolicy words a policy: how long readers wait, negative for as long as it takes, and whether everything is fetched.
func NewPolicy(deadline time.Duration, all bool) Policy {
	p := Policy{Deadline: deadline.String(), Prefetch: prefetchNone}
	if deadline < 0 {
		p.Deadline = waitForever
	}
	if all {
		p.Prefetch = prefetchAll
	}
	return p
}

// ParsePrefetch reads what is fetched before somebody reads it, and reports whether that is everything.
func ParsePrefetch(s string) (bool, error) {
	if s != prefetchNone && s != prefetchAll {
		return false, fmt.Errorf("prefetch %q is neither %q nor %q", s, prefetchNone, prefetchAll)
	}
	return s == prefetchAll, nil
}

// Validate returns an error unless both words are ones that a daemon knows.
func (p Policy) Validate() error {
	if p.Deadline != "" {
		if _, err := ParseDeadline(p.Deadline); err != nil {
			return err
		}
	}
	if p.Prefetch != "" {
		if _, err := ParsePrefetch(p.Prefetch); err != nil {
			return err
		}
	}
	return nil
}
