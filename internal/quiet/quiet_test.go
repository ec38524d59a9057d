package quiet

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTheFirstIsToldAndThenOneInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Limiter
		var counts []int
		for range 250 { // in 25 seconds
			if n, ok := l.Tell(); ok {
				counts = append(counts, n)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if len(counts) != 3 || counts[0] != 0 || counts[1] != 99 || counts[2] != 99 {
			t.Errorf("told with counts %v, want [0 99 99]", counts)
		}
	})
}
