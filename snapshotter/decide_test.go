package snapshotter

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/snapshotters"
)

// TestARegistryThatDoesNotAnswerHoldsNobodyUpForLong pulls images that share their first layer, each twice at the same time.
func TestARegistryThatDoesNotAnswerHoldsNobodyUpForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.node.silent = true
		const images, pulls = 5, 2
		began := time.Now()
		var work sync.WaitGroup
		for i := range images * pulls {
			own := labels(l.chains[0], snapshotters.TargetRefLabel, fmt.Sprintf("127.0.0.1:5000/app%d:1", i%images))
			work.Go(func() {
				if _, err := l.Prepare(t.Context(), fmt.Sprintf("extract-%d", i), "", snapshots.WithLabels(own)); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		if took := time.Since(began); took > decideTimeout {
			t.Errorf("the last one waited %v", took)
		}
		if said := strings.Count(l.log.String(), errSlow.Error()); len(l.node.asked) != images || said != images {
			t.Errorf("asked for %v, said:\n%s", l.node.asked, l.log)
		}
	})
}

// TestADecisionHoldsForOnePull has the layers of a pull asked for one after the other, each half a minute later, as they arrive. An artifact is only used as long as the policy has been
// asked lately, and that there is none is found out and said once.
func TestADecisionHoldsForOnePull(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*lab)
		asked int
	}{
		"with an artifact": {func(*lab) {}, 4},
		"without":          {func(l *lab) { clear(l.node.found) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				c.spoil(l)
				for range 7 {
					l.decide(t.Context(), l.chains[0], labels(l.chains[0]))
					time.Sleep(decisionAge / 2)
				}
				if said := strings.Count(l.log.String(), "unpacked as usual"); len(l.node.asked) != c.asked || said > 1 {
					t.Errorf("asked for %v, want %d times; said:\n%s", l.node.asked, c.asked, l.log)
				}
				time.Sleep(decisionAge)
				l.decide(t.Context(), l.chains[0], labels(l.chains[0]))
				if len(l.node.asked) != c.asked+1 {
					t.Errorf("the next pull had asked for %v", l.node.asked)
				}
			})
		})
	}
}
