package report

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/timeline"
)

// hostile are names that nobody should have to show.
var hostile = []string{
	"/usr/share/<script>document.title='owned'</script>",
	"/usr/share/\"onload=\"document.title='owned'",
	"/usr/share/--></style><img src=http://192.0.2.1/x onerror=document.title='owned'>",
	"/usr/share/{{.Title}}",
	"/usr/share/\x1b]0;owned\x07\x1b[2J",
	"/usr/share/\xff\xfe not UTF-8",
	"/usr/share/\u202egnp.exe",
	"/usr/share/a\nb\tc",
	"/usr/share/javascript:document.title='owned'//",
}

// sampleTree is an image of files in a few directories, hostile ones among them, each in a place of its own in one blob.
func sampleTree(files int) *Tree {
	t := &Tree{spans: make(map[int][]span)}
	rnd := rand.New(rand.NewPCG(1, 2))
	off := int64(0)
	add := func(path string, size int64) {
		t.spans[0] = append(t.spans[0], span{off, off + size, len(t.Files), 0})
		t.Files = append(t.Files, File{Path: path, Size: size, Length: size})
		off += (size + 4095) &^ 4095
	}
	dirs := []string{"/usr/lib/python3.11", "/usr/lib/x86_64-linux-gnu", "/usr/share/doc/a", "/usr/share/doc/b", "/opt/app/node_modules/left-pad/dist", "/var/cache/apt", "/etc"}
	for i := range files {
		add(fmt.Sprintf("%s/module_%04d.so", dirs[i%len(dirs)], i), 4096+rnd.Int64N(400_000))
	}
	for _, name := range hostile {
		add(name, 90_000)
	}
	return t
}

// sampleTimeline has so many reads that waited, one after the other, and what else comes with them.
func sampleTimeline(tree *Tree, misses int) *control.Timeline {
	rnd := rand.New(rand.NewPCG(3, 4))
	asked := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	t := &control.Timeline{
		Image:       control.Image{ID: "abcdef0123456789abcdef", Ref: "registry.example.com/team/app:1", Transport: "fanotify", State: control.Lazy, TotalBytes: 300 << 20, PresentBytes: 30 << 20, MetaBytes: 1 << 20},
		SourceBytes: 120 << 20, Asked: asked, Loaded: asked.Add(80 * time.Millisecond), Mounted: asked.Add(95 * time.Millisecond), Now: asked.Add(time.Minute),
	}
	t.Began = asked.Add(90 * time.Millisecond)
	at := 20 * time.Millisecond
	curve := timeline.Curve{Reason: "demand"}
	sum := int64(0)
	for i := range misses {
		s := tree.spans[0][i*7919%len(tree.spans[0])]
		if i < len(hostile) {
			s = tree.spans[0][len(tree.spans[0])-1-i]
		}
		cost := timeline.Cost{Queue: time.Duration(rnd.IntN(1000)) * time.Microsecond, Server: 10*time.Millisecond + time.Duration(rnd.IntN(9000))*time.Microsecond, Transfer: time.Duration(rnd.IntN(8000)) * time.Microsecond, Verify: 900 * time.Microsecond}
		took := cost.Backend() + cost.Verify + 100*time.Microsecond
		e := timeline.Event{Kind: timeline.Wait, At: at, Off: s.off, Len: min(s.end-s.off, 131072), Took: took, Cost: cost, Reason: "demand"}
		if i%10 == 3 {
			e.Joined, e.Reason = true, "around"
		}
		if i == 15 {
			e.Err, e.Took, e.Cost = "read bytes 1 to 2 of \x1b[31m<b>evil</b>: no answer", 300*time.Millisecond, timeline.Cost{}
		}
		t.Events = append(t.Events, e, timeline.Event{Kind: timeline.Fetch, At: at, Off: s.off, Len: 131072, Took: e.Took, Cost: cost, Reason: "demand", Site: "registry registry.example.com", Bytes: 60_000, Try: 1, Err: e.Err})
		at += e.Took + time.Duration(rnd.IntN(3000))*time.Microsecond
		sum += 60_000
		if i%(misses/256+1) == 0 {
			t.Steps, curve.Bytes = append(t.Steps, timeline.Step{From: at - e.Took, To: at}), append(curve.Bytes, sum)
		}
	}
	t.Curves = []timeline.Curve{curve}
	t.Waiting = []control.Waiter{{Blob: 0, Off: tree.spans[0][3].off, Len: 4096, For: 2 * time.Second}}
	return t
}
