// Package await has tests wait for what happens in its own time.
//
// It knows a clock and nothing else. The one idea to hold in mind: a test waits for the event itself, and how long that may take only decides when to give up.
package await

import (
	"testing"
	"time"
)

const (
	// Patience is how long what must happen may take: an emulated kernel on a busy machine needs seconds for what is done in milliseconds elsewhere.
	Patience = 2 * time.Minute
	// pace is how long nobody looks.
	pace = 10 * time.Millisecond
)

// True returns as soon as ok does so with true. It ends the test if that does not happen within Patience; what is said to have been waited for.
func True(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(pace) {
		if ok() {
			return
		}
	}
	t.Fatalf("timed out waiting for: %s", what)
}
