package httprange

import (
	"net/url"
	"testing"
	"time"
)

// FuzzLife has no redirect remembered for longer than an hour, whatever its URL says, and no server make us wait for longer than a minute.
func FuzzLife(f *testing.F) {
	for _, q := range []string{"X-Amz-Date=20260102T030405Z&X-Amz-Expires=300", "Expires=1767323345", "se=2026-01-02T03:14:05Z", "Fri, 02 Jan 2026 03:04:15 GMT", "99999999999"} {
		f.Add(q)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		if d := lifeOf(&url.URL{RawQuery: s}, now); d < 0 || d > maxLife {
			t.Errorf("%q: remembered for %v", s, d)
		}
		if d := retryAfter(s, now); d < 0 || d > maxRetryAfter {
			t.Errorf("%q: waits for %v", s, d)
		}
	})
}
