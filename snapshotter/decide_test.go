package snapshotter

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/snapshotters"
	"github.com/opencontainers/go-digest"
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
				for i := range 7 {
					layer := l.chains[0]
					if name == "without" {
						layer = digest.FromString(fmt.Sprint("layer ", i))
					}
					l.decide(t.Context(), layer, labels(layer))
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

// TestAnImageThatIsConvertedBetweenPullsIsLazyInTheNext pulls an image at once again: unconverted, so that the reason is said again, and converted.
func TestAnImageThatIsConvertedBetweenPullsIsLazyInTheNext(t *testing.T) {
	l := newLab(t)
	found := l.node.found
	l.node.found = nil
	for pull := 1; pull <= 2; pull++ {
		for _, c := range l.chains {
			if l.decide(t.Context(), c, labels(c)) != nil {
				t.Fatalf("layer %s has an artifact", c)
			}
		}
		if said := strings.Count(l.log.String(), "image is unpacked as usual"); len(l.node.asked) != pull || said != pull {
			t.Errorf("after %d pulls it asked for %v, said:\n%s", pull, l.node.asked, l.log)
		}
		got := l.Unpacked()
		if len(got) != 1 || got[0].Image != imageName || got[0].Reason != "no artifact is attached to it" {
			t.Errorf("unpacked are %+v", got)
		}
	}
	l.node.found = found
	l.pull()
	if got := l.Unpacked(); len(got) > 0 {
		t.Errorf("it is lazy, and yet among %+v", got)
	}
}

// TestAnImageThatIsOptimizedBetweenPullsIsMountedAsItIsThen removes it in between.
func TestAnImageThatIsOptimizedBetweenPullsIsMountedAsItIsThen(t *testing.T) {
	l := newLab(t)
	l.pull()
	optimized := l.artifact()
	optimized.Artifact = imageRepo + "@" + digest.FromString("optimized").String()
	l.node.found[imageRepo+"@"+manifest.String()] = optimized
	for _, chain := range slices.Backward(l.chains) {
		if err := l.Remove(t.Context(), chain.String()); err != nil {
			t.Fatal(err)
		}
	}
	l.pull()
	if len(l.mounted()) != 1 {
		t.Fatalf("mounted: %v", l.mounted())
	}
	if b, err := os.ReadFile(filepath.Join(l.mounted()[0], "from")); err != nil || string(b) != optimized.Artifact {
		t.Errorf("%q is mounted, %v; want %s", b, err, optimized.Artifact)
	}
}

func TestTheNewestUnpackedImagesAreRemembered(t *testing.T) {
	var u unpackedImages
	named := func(i int) map[string]string {
		return map[string]string{snapshotters.TargetRefLabel: fmt.Sprintf("127.0.0.1:5000/app%d:1", i)}
	}
	for i := range maxUnpacked + 2 {
		u.note(named(i), errSlow)
	}
	u.note(named(5), errUnnamed)
	got := u.list()
	if len(got) != maxUnpacked || got[0].Image != shownName(named(5)) || got[0].Reason != errUnnamed.Error() || got[maxUnpacked-1].Image != shownName(named(2)) {
		t.Errorf("%d are remembered: %+v", len(got), got)
	}
}
