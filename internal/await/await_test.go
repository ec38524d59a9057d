package await

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// told is a test that notes what it ended with.
type told struct {
	testing.TB
	words string
}

func (*told) Helper() {}

func (t *told) Fatalf(format string, args ...any) { t.words = fmt.Sprintf(format, args...) }

// TestWhatNeverHappensIsNamed waits on a made-up clock.
func TestWhatNeverHappensIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		late := began.Add(Patience / 2)
		var w told
		True(&w, "the second minute", func() bool { return !time.Now().Before(late) })
		if took := time.Since(began); w.words != "" || took < Patience/2 || took > Patience/2+pace {
			t.Errorf("it took %v and ended with %q", took, w.words)
		}
		True(&w, "godot", func() bool { return false })
		if w.words != "timed out waiting for: godot" {
			t.Errorf("it ended with %q", w.words)
		}
	})
}
