package report

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/timeline"
	"github.com/pagein/pagein/profile"
)

func TestWaitsAreToldByFile(t *testing.T) {
	tree := &Tree{Files: []File{{"/a", 8192, 8192}, {"/b", 4096, 4096}}, spans: map[int][]span{1: {{0, 8192, 0, 0}, {8192, 12288, 1, 0}}}}
	began := time.Unix(100, 0)
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	in := Input{Tree: tree, Timeline: &control.Timeline{
		Image: control.Image{Ref: "x", TotalBytes: 12288}, SourceBytes: 6144, Asked: began, Loaded: began.Add(ms(5)), Mounted: began.Add(ms(10)), Now: began.Add(ms(900)),
		Snapshot: timeline.Snapshot{Began: began.Add(ms(8)), Steps: []timeline.Step{{From: ms(1), To: ms(10)}, {From: ms(12), To: ms(12)}}, Events: []timeline.Event{
			{Kind: timeline.Wait, Blob: 1, At: ms(50), Off: 8192, Len: 4096, Took: ms(20), Cost: timeline.Cost{Server: ms(15), Transfer: ms(4)}},
			{Kind: timeline.Wait, Blob: 1, At: ms(2), Off: 0, Len: 4096, Took: ms(10), Cost: timeline.Cost{Queue: ms(9)}, Err: "down"},
			{Kind: timeline.Touch, Blob: 1, At: ms(30), Off: 4096, Len: 4096},
			{Kind: timeline.Wait, Blob: 1, At: ms(5), Off: 0, Len: 4096, Took: ms(10), Cost: timeline.Cost{Queue: ms(9)}, Joined: true, Reason: "around"},
			{Kind: timeline.Fetch, Blob: 1, Reason: "demand", Site: "s", Bytes: 7, Cost: timeline.Cost{Server: ms(3)}},
		}, Curves: []timeline.Curve{{Reason: "demand", Bytes: []int64{3, 7}}}},
		Waiting: []control.Waiter{{Blob: 1, Off: 8192, Len: 1, For: ms(400)}},
	}}
	r := Make(in)
	if w := r.Waits; w.Count != 3 || w.Sum != ms(40) || w.Any != ms(33) || w.Longest != ms(20) || w.Failed != 1 || w.Joined != 1 || w.Cost.Queue != ms(18) {
		t.Errorf("waits: %+v", w)
	}
	if len(r.Files) != 2 || r.Files[0].Path != "/a" || r.Files[0].First != ms(10) || r.Files[0].Waits != 2 || r.Files[0].Read != 8192 || r.Files[1].Waited != ms(20) {
		t.Errorf("files: %+v", r.Files)
	}
	if i := r.Image; i.Read != 2 || i.ReadBytes != 12288 || i.Bytes != 12288 || i.Fetched != 7 {
		t.Errorf("image: %+v", i)
	}
	if len(r.Now) != 1 || r.Now[0].Path != "/b" || r.Now[0].At != ms(500) {
		t.Errorf("waiting now: %+v", r.Now)
	}
	var phases []string
	for _, p := range r.Phases {
		phases = append(phases, p.Name+" "+seconds(p.At))
	}
	want := []string{"mount asked for 0 µs", "metadata on this node 5 ms", "mounted 10 ms", "first read that waited 10 ms", "last read that waited is over 78 ms"}
	if !slices.Equal(phases, want) {
		t.Errorf("phases: %q", phases)
	}
	if len(r.Sites) != 1 || r.Sites[0].Answer != ms(3) || len(r.Fetched) != 1 || r.Fetched[0].Bytes != 7 || len(r.Errors) != 1 {
		t.Errorf("sites %+v, fetched %+v, errors %+v", r.Sites, r.Fetched, r.Errors)
	}
}

func TestDataOfSeveralFilesIsTheFirstOnes(t *testing.T) {
	tree := &Tree{Files: []File{{"/a", 100, 100}, {"/b", 100, 100}}, spans: map[int][]span{0: untangle([]span{{50, 150, 1, 0}, {0, 100, 0, 0}, {20, 60, 1, 7}})}}
	want := []Piece{{0, 10, 90}, {1, 50, 20}}
	if got := tree.At(0, 10, 110); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := tree.At(0, 150, 10); got != nil {
		t.Errorf("behind the end lies %+v", got)
	}
	if got := tree.At(5, 0, 10); got != nil {
		t.Errorf("in another blob lies %+v", got)
	}
}

func TestAProfileAloneTellsWhatWasTouched(t *testing.T) {
	p := &profile.Profile{Ready: 3 * time.Second, Entries: []profile.Entry{
		{Path: "/etc/module_0006.so", Len: 4096, Kind: profile.KindRead}, {Path: "/gone", Size: 10, Len: 4096, Time: time.Second, Kind: profile.KindRead},
	}}
	for name, tree := range map[string]*Tree{"with": sampleTree(20), "without": nil} {
		r := Make(Input{Title: "x", Profile: p, Tree: tree})
		if r.Measured || len(r.Files) != 2 || r.Length != 3*time.Second || r.Files[1].Read != 10 {
			t.Errorf("%s: %+v", name, r)
		}
		var page, text strings.Builder
		if err := r.HTML(&page); err != nil {
			t.Error(err)
		}
		if err := r.Text(&text); err != nil {
			t.Error(err)
		}
		if has := strings.Contains(page.String(), `id="tree"`); has != (tree != nil) {
			t.Errorf("%s: a map is drawn: %v", name, has)
		}
		if strings.Contains(page.String(), "Reads that waited") {
			t.Errorf("%s: speaks of waiting", name)
		}
	}
}

// TestNamesAreOnlyEverText has files with the names that hurt.
func TestNamesAreOnlyEverText(t *testing.T) {
	tree := sampleTree(50)
	r := Make(Input{Timeline: sampleTimeline(tree, 40), Tree: tree})
	var page, text strings.Builder
	if err := r.HTML(&page); err != nil {
		t.Fatal(err)
	}
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script>d", "<img", "<b>evil", "onload=\"d", "</style><", "\x1b", "\u202e", "\x07"} {
		if strings.Contains(page.String(), bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	for _, s := range []string{page.String(), text.String()} {
		if !utf8.ValidString(s) {
			t.Error("what is written is not UTF-8")
		}
		if i := strings.IndexFunc(s, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' || unicode.Is(unicode.Cf, c) }); i >= 0 {
			t.Errorf("there is a control character in %q", s[max(i-20, 0):i+10])
		}
	}
	if !strings.Contains(text.String(), `\xff\xfe not UTF-8`) {
		t.Error("the name that is not UTF-8 is not shown")
	}
}

// TestTheStartIsDrawn has images of which much is read for a moment, and hardly anything for hours.
func TestTheStartIsDrawn(t *testing.T) {
	wait := func(at, took time.Duration) timeline.Event {
		return timeline.Event{Kind: timeline.Wait, At: at, Took: took}
	}
	const ms = time.Millisecond
	start := []timeline.Event{wait(100*ms, 50*ms), wait(2*time.Second, 500*ms), wait(15*time.Second, 100*ms)}
	later := func(d time.Duration) (all []timeline.Event) {
		for _, e := range start {
			e.At += d
			all = append(all, e)
		}
		return all
	}
	for name, c := range map[string]struct {
		events []timeline.Event
		want   window
	}{
		"nothing":                    {nil, window{}},
		"a start":                    {start, window{0, 15100 * ms, 0}},
		"a read at once":             {[]timeline.Event{wait(0, 0)}, window{0, ms, 0}},
		"and now and then":           {append(later(0), wait(time.Hour, 20*ms), wait(2*time.Hour, 20*ms)), window{0, 15100 * ms, 2}},
		"long after the mount":       {later(time.Hour), window{time.Hour - 650*ms, time.Hour + 15100*ms, 0}},
		"after a read for the mount": {append([]timeline.Event{wait(time.Second, 20*ms)}, later(time.Hour)...), window{time.Hour - 650*ms, time.Hour + 15100*ms, 1}},
	} {
		r := Make(Input{Timeline: &control.Timeline{Snapshot: timeline.Snapshot{Events: c.events}}})
		if got := r.window(); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// TestTheLinkIsAsFastAsItWasOnce has bytes that come slowly for long after they came fast for a moment.
func TestTheLinkIsAsFastAsItWasOnce(t *testing.T) {
	const ms = time.Millisecond
	steps := []timeline.Step{{From: 0, To: 10 * ms}, {From: 1000 * ms, To: 1100 * ms}, {From: 1150 * ms, To: 1200 * ms}, {From: 1300 * ms, To: 1300 * ms}, {From: 2 * time.Second, To: time.Hour}}
	sums := []int64{1 << 10, 1<<10 + 3<<20, 1<<10 + 4<<20, 1<<10 + 5<<20, 1<<10 + 9<<20}
	if got, want := fastest(steps, sums), float64(4<<20)/0.2; got != want {
		t.Errorf("%f, want %f", got, want)
	}
	if got := fastest(steps[:1], sums[:1]); got != 0 {
		t.Errorf("of next to nothing %f", got)
	}
	if got := fastest([]timeline.Step{{From: 0, To: 15 * ms}, {From: 1000 * ms, To: 1010 * ms}}, []int64{8 << 20, 9 << 20}); got != 0 {
		t.Errorf("of a moment %f", got)
	}
	curve := points(steps, sums, time.Second)
	for at, want := range map[time.Duration]int64{0: 0, time.Second: 0, 1005 * ms: 512, 1500 * ms: 1 << 10, 2050 * ms: 1<<10 + 3<<19, 2300 * ms: 1<<10 + 5<<20, 2 * time.Hour: 1<<10 + 9<<20} {
		if got := reached(curve, at); got != want {
			t.Errorf("after %s there are %d bytes, want %d", at, got, want)
		}
	}
}

func TestAxesHaveRoundNumbers(t *testing.T) {
	for end, want := range map[time.Duration]string{
		3 * time.Second: "0 500 ms 1 s 1.5 s 2 s 2.5 s 3 s", 100 * time.Second: "0 20 s 40 s 60 s 80 s 100 s", 7 * time.Minute: "0 2 min 4 min 6 min", 5 * time.Hour: "0 1 h 2 h 3 h 4 h 5 h",
	} {
		var got []string
		for _, tick := range (timeScale{0, 100, 0, end}).ticks() {
			got = append(got, tick.Text)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("up to %s: %s, want %s", end, s, want)
		}
	}
	if ticks := (timeScale{0, 100, 3599 * time.Second, 3602 * time.Second}).ticks(); len(ticks) == 0 || ticks[0].At < 0 || ticks[len(ticks)-1].At > 100 {
		t.Errorf("of a later time: %+v", ticks)
	}
	for v, want := range map[float64]float64{1: 1, 300: 500, 600: 1024, 796 << 10: 1 << 20, 3 << 20: 5 << 20} {
		if got := niceBytes(v); got != want {
			t.Errorf("%f bytes: %f, want %f", v, got, want)
		}
	}
}

func TestPagesAreBounded(t *testing.T) {
	tree := sampleTree(60_000)
	r := Make(Input{Timeline: sampleTimeline(tree, 4000), Tree: tree})
	var page strings.Builder
	if err := r.HTML(&page); err != nil {
		t.Fatal(err)
	}
	if page.Len() > 2<<20 {
		t.Errorf("the page has %d bytes", page.Len())
	}
	t.Logf("%d bytes", page.Len())
}

func TestAnEmptyTimelineIsAReport(t *testing.T) {
	r := Make(Input{Timeline: &control.Timeline{Adopted: true}})
	var page, text strings.Builder
	if err := r.HTML(&page); err != nil {
		t.Error(err)
	}
	if err := r.Text(&text); err != nil {
		t.Error(err)
	}
	if !strings.Contains(text.String(), "no read waited") {
		t.Error(text.String())
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}

// TestTheMapCoversWhatItShows compares areas with bytes.
func TestTheMapCoversWhatItShows(t *testing.T) {
	list := []*dir{{size: 600}, {size: 300}, {size: 60}, {size: 40}}
	area := 0.0
	squarify(list, rect{10, 20, 400, 250}, func(d *dir, at rect) {
		if got, want := at.w*at.h, float64(d.size)*100; math.Abs(got-want) > 1 {
			t.Errorf("%d bytes have area %f", d.size, got)
		}
		if at.x < 9.9 || at.y < 19.9 || at.x+at.w > 410.1 || at.y+at.h > 270.1 {
			t.Errorf("%+v lies outside", at)
		}
		area += at.w * at.h
	})
	if math.Abs(area-400*250) > 1 {
		t.Errorf("%f of %d is covered", area, 400*250)
	}
}

func TestAdviceNamesWhatIsCarriedForNothing(t *testing.T) {
	tree := sampleTree(70)
	r := Make(Input{Timeline: sampleTimeline(tree, 12), Tree: tree})
	all := strings.Join(r.Advice, "\n")
	for _, want := range []string{"pagein optimize", "nothing was read this time", "first byte of answers"} {
		if !strings.Contains(all, want) {
			t.Errorf("advice says nothing of %q:\n%s", want, all)
		}
	}
}

// TestWhatIsNotSeenIsNotCalledUnread has an image whose hot blob was fetched ahead.
func TestWhatIsNotSeenIsNotCalledUnread(t *testing.T) {
	tree := sampleTree(70)
	tl := sampleTimeline(tree, 12)
	tl.Curves = append(tl.Curves, timeline.Curve{Reason: "prefetch", Bytes: slices.Repeat([]int64{8 << 20}, len(tl.Steps))})
	all := strings.Join(Make(Input{Timeline: tl, Tree: tree}).Advice, "\n")
	if strings.Contains(all, "nothing was read") || strings.Contains(all, "have not been read yet") || !strings.Contains(all, "Not all reads are seen") {
		t.Error(all)
	}
}

func TestWhatTheKernelAskedForBecomesAProfile(t *testing.T) {
	tree := &Tree{Files: []File{{"/a", 20000, 20000}, {"/b", 4096, 4096}}, spans: map[int][]span{0: {{0, 20000, 0, 0}, {20480, 24576, 1, 0}}}}
	p := tree.Profile([]control.Touch{
		{Off: 8192, Len: 4096, At: 2 * time.Second}, {Off: 20480, Len: 4096, At: time.Second}, {Off: 0, Len: 24576, At: 3 * time.Second}, {Blob: 9, Len: 4096},
	})
	miss := func(path string, size, off, n int64, at int) profile.Entry {
		return profile.Entry{Path: path, Size: size, Off: off, Len: n, Time: time.Duration(at) * time.Second, Kind: profile.KindMiss}
	}
	want := []profile.Entry{miss("/b", 4096, 0, 4096, 1), miss("/a", 20000, 8192, 4096, 2), miss("/a", 20000, 0, 8192, 3), miss("/a", 20000, 12288, 8192, 3)}
	if !slices.Equal(p.Entries, want) {
		t.Errorf("got %+v\nwant %+v", p.Entries, want)
	}
	var text strings.Builder
	if err := p.Write(&text); err != nil {
		t.Error(err)
	}
}
