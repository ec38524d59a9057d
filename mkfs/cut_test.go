package mkfs

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pagein/pagein/blob"
)

func cutterOf(t testing.TB, o blob.WriterOptions) cutter {
	t.Helper()
	o, err := o.Complete()
	if err != nil {
		t.Fatal(err)
	}
	return newCutter(o)
}

func TestFilesAreCutAtTheSamePlaces(t *testing.T) {
	const frame, block = blob.LargeFrame, 4096
	c := cutterOf(t, blob.WriterOptions{})
	for name, tc := range map[string]struct {
		spans []span
		want  []piece
	}{
		"small":                       {[]span{{0, 64 << 10}}, []piece{{0, 64 << 10, true}}},
		"one piece":                   {[]span{{0, 64<<10 + 1}}, []piece{{0, 64<<10 + 1, false}}},
		"two frames":                  {[]span{{0, 2 * frame}}, []piece{{0, frame, false}, {frame, frame, false}}},
		"short rest":                  {[]span{{0, 2*frame + 10}}, []piece{{0, frame, false}, {frame, frame + 10, false}}},
		"long rest":                   {[]span{{0, frame + frame/4}}, []piece{{0, frame, false}, {frame, frame / 4, false}}},
		"holes":                       {[]span{{frame, block}, {3 * frame, frame}}, []piece{{frame, block, true}, {3 * frame, frame, false}}},
		"begins shortly before a cut": {[]span{{frame - block, 2 * frame}}, []piece{{frame - block, frame + block, false}, {2 * frame, frame - block, false}}},
	} {
		got := slices.Collect(c.pieces(layout{spans: tc.spans}))
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestPiecesCoverAllDataAndFitFrames(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, o := range []blob.WriterOptions{{}, {LargeFrame: 4096}, {LargeFrame: blob.MaxFrame}, {LargeFrame: 12 << 10, SmallFile: 4096, SmallFrame: 8192}} {
		c := cutterOf(t, o)
		if c.longest() > blob.MaxFrame {
			t.Fatalf("pieces of %d bytes are no frames", c.longest())
		}
		for range 300 {
			var spans []span
			for off := int64(0); len(spans) < 5; {
				off += random.Int64N(100) * 4096
				size := 1 + random.Int64N(3*c.frame)
				spans = append(spans, span{off, size})
				off += (size + 2*4096 - 1) &^ 4095
			}
			var covered []span
			for p := range c.pieces(layout{spans: spans}) {
				limit := c.longest()
				if p.small {
					limit = c.small
				}
				if p.len < 1 || p.len > limit || p.off%4096 != 0 {
					t.Fatalf("%v: piece %v", spans, p)
				}
				if n := len(covered); n > 0 && covered[n-1].off+covered[n-1].len == p.off {
					covered[n-1].len += p.len
					continue
				}
				covered = append(covered, span{p.off, p.len})
			}
			if !slices.Equal(covered, spans) {
				t.Fatalf("%v is covered by %v", spans, covered)
			}
		}
	}
}
