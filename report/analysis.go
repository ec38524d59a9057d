package report

import (
	"cmp"
	"slices"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/timeline"
	"github.com/pagein/pagein/profile"
)

// analysis is a report in the making.
type analysis struct {
	*Report
	files map[string]int // in Report.Files, by path
	reads []ranges       // of each of Report.Files
	began time.Duration  // when the recorder's time began
}

// timeline takes up what a daemon recorded.
func (a *analysis) timeline(t *control.Timeline) {
	r := a.Report
	r.Title = cmp.Or(r.Title, t.Image.Ref)
	r.ID, r.Transport, r.State, r.Problem, r.Adopted, r.Left, r.Measured = t.Image.ID, t.Image.Transport, string(t.Image.State), t.Image.Problem, t.Adopted, t.Missed, true
	r.Image.Compressed, r.Image.MetaBytes, r.Image.OnNode = t.SourceBytes, t.Image.MetaBytes, t.Image.PresentBytes
	if r.Image.Bytes == 0 {
		r.Image.Bytes = t.Image.TotalBytes
	}
	// What is complete the kernel reads without asking, and through cachefiles whatever is there.
	r.Unseen = t.Adopted || t.Image.State == control.Complete || t.Image.Transport == "cachefiles"
	r.Began = t.Began
	if !t.Asked.IsZero() {
		r.Began = t.Asked
		a.phase("mount asked for", 0)
		a.phase("metadata on this node", t.Loaded.Sub(t.Asked))
		a.phase(mounted, t.Mounted.Sub(t.Asked))
	}
	a.began = t.Began.Sub(r.Began)
	events := slices.Clone(t.Events)
	slices.SortStableFunc(events, func(x, y timeline.Event) int { return cmp.Compare(x.At, y.At) })
	for _, e := range events {
		e.At += a.began
		r.Length = max(r.Length, e.At+e.Took)
		switch e.Kind {
		case timeline.Wait:
			a.wait(e)
		case timeline.Touch:
			a.touch(e.Blob, e.Off, e.Len, e.At)
		}
	}
	r.Deadline, r.Hot, r.Limit = t.Image.Deadline, t.HotBytes, t.HostBandwidth
	a.fetches(events, t.Curves)
	a.failures(events)
	for _, w := range t.Waiting {
		at := t.Now.Sub(r.Began) - w.For
		r.Now = append(r.Now, a.miss(timeline.Event{Blob: w.Blob, Off: w.Off, Len: w.Len, At: at, Took: w.For}))
	}
	if n := len(r.Misses); n > 0 {
		a.phase("first read that waited", r.Misses[0].At)
		last := slices.MaxFunc(r.Misses, func(x, y Miss) int { return cmp.Compare(x.At+x.Took, y.At+y.Took) })
		a.phase(lastWaited, last.At+last.Took)
	}
}

// The names of phases that are looked for: in which the image is mounted, and in which nobody waits any more.
const (
	mounted    = "mounted"
	lastWaited = "last read that waited is over"
)

func (a *analysis) phase(name string, at time.Duration) {
	a.Phases = append(a.Phases, Phase{name, at})
}

// miss says what a reader waited for.
func (a *analysis) miss(e timeline.Event) Miss {
	m := Miss{Off: e.Off, Len: e.Len, At: e.At, Took: e.Took, Cost: e.Cost, Err: e.Err, blob: int64(e.Blob), off: e.Off, len: e.Len}
	if e.Joined && e.Err == "" {
		m.Joined = e.Reason
	}
	if pieces := a.pieces(e.Blob, e.Off, e.Len); len(pieces) > 0 {
		most := slices.MaxFunc(pieces, func(x, y Piece) int { return cmp.Compare(x.Len, y.Len) })
		m.Path, m.Off, m.Len = a.tree.Files[most.File].Path, most.Off, most.Len
	}
	return m
}

func (a *analysis) pieces(blob int, off, n int64) []Piece {
	if a.tree == nil {
		return nil
	}
	return a.tree.At(blob, off, n)
}

// wait takes up a read that waited.
func (a *analysis) wait(e timeline.Event) {
	m := a.miss(e)
	a.Misses = append(a.Misses, m)
	w := &a.Waits
	w.Count++
	w.Sum += m.Took
	w.Longest = max(w.Longest, m.Took)
	w.Cost = w.Cost.Plus(m.Cost)
	if m.Joined != "" {
		w.Joined++
	}
	k := a.file(m.Path, 0, m.At)
	f := &a.Files[k]
	f.Waits++
	f.Waited += m.Took
	f.Longest = max(f.Longest, m.Took)
	if m.Err != "" {
		w.Failed++
		w.InVain += max(m.Took-m.Cost.Backend()-m.Cost.Verify, 0)
		f.Failed++
	}
	f.bars = append(f.bars, bar{m.At, m.Took, m.Cost, m.Err != ""})
	if m.Err != "" {
		a.want(e.Blob, e.Off, e.Len, e.At)
	} else {
		a.touch(e.Blob, e.Off, e.Len, e.At)
	}
}

// want takes up a range that was wanted and did not come: its files are in the report, and nothing of them was read.
func (a *analysis) want(blob int, off, n int64, at time.Duration) {
	for _, p := range a.pieces(blob, off, n) {
		f := a.tree.Files[p.File]
		a.file(f.Path, f.Size, at)
	}
}

// touch takes up a range that was wanted, and was there or came.
func (a *analysis) touch(blob int, off, n int64, at time.Duration) {
	pieces := a.pieces(blob, off, n)
	if len(pieces) == 0 {
		k := a.file("", 0, at)
		a.reads[k].add(off, off+n)
		return
	}
	for _, p := range pieces {
		tf := a.tree.Files[p.File]
		a.reads[a.file(tf.Path, tf.Size, at)].add(p.Off, p.Off+p.Len)
		if a.touched[p.File] == nil {
			a.touched[p.File] = new(ranges)
		}
		a.touched[p.File].add(p.Off, p.Off+p.Len)
	}
}

// file returns the index of a file in the report.
func (a *analysis) file(path string, size int64, at time.Duration) int {
	k, ok := a.files[path]
	if !ok {
		k = len(a.Files)
		a.files[path] = k
		a.Files = append(a.Files, Used{Path: path, First: at})
		a.reads = append(a.reads, ranges{})
	}
	f := &a.Files[k]
	f.Size, f.First = max(f.Size, size), min(f.First, at)
	return k
}

// fetches sums up what was asked of whom.
func (a *analysis) fetches(events []timeline.Event, curves []timeline.Curve) {
	answers := make(map[string][]time.Duration)
	for _, e := range events {
		if e.Kind != timeline.Fetch {
			continue
		}
		named(&a.Fetched, e.Reason, func(f *Fetched) *string { return &f.Reason }).Requests++
		if e.Reason == "prefetch" && e.Err == "" {
			a.bring(e)
		}
		s := named(&a.Sites, e.Site, func(s *Site) *string { return &s.Name })
		s.Requests++
		s.Bytes += e.Bytes
		if e.Err != "" {
			s.Failed++
		} else {
			answers[e.Site] = append(answers[e.Site], e.Cost.Server)
		}
	}
	for _, c := range curves {
		n := c.Bytes[len(c.Bytes)-1]
		a.Unseen = a.Unseen || c.Reason == "prefetch" && n > 0
		named(&a.Fetched, c.Reason, func(f *Fetched) *string { return &f.Reason }).Bytes += n
		a.Image.Fetched += n
	}
	for i := range a.Sites {
		if took := answers[a.Sites[i].Name]; len(took) > 0 {
			slices.Sort(took)
			a.Sites[i].Answer = took[len(took)/2]
		}
	}
}

// bring takes up a range that was prefetched.
func (a *analysis) bring(e timeline.Event) {
	for _, p := range a.pieces(e.Blob, e.Off, e.Len) {
		if a.brought[p.File] == nil {
			a.brought[p.File] = new(ranges)
		}
		a.brought[p.File].add(p.Off, p.Off+p.Len)
	}
}

// named returns the element of that name, which it adds if there is none.
func named[T any](list *[]T, name string, field func(*T) *string) *T {
	i := slices.IndexFunc(*list, func(t T) bool { return *field(&t) == name })
	if i < 0 {
		i = len(*list)
		*list = append(*list, *new(T))
		*field(&(*list)[i]) = name
	}
	return &(*list)[i]
}

// profile takes up what a workload touched.
func (a *analysis) profile(p *profile.Profile) {
	inTree := make(map[string]int)
	if a.tree != nil {
		for i, f := range a.tree.Files {
			inTree[f.Path] = i
		}
	}
	total := int64(0)
	for _, e := range p.Entries {
		end := e.Off + e.Len
		size := e.Size
		if i, ok := inTree[e.Path]; ok {
			inBlobs := a.tree.Files[i].Size
			size = cmp.Or(inBlobs, a.tree.Files[i].Length) // what is small lies in the metadata image
			if a.touched[i] == nil {
				a.touched[i] = new(ranges)
			}
			a.touched[i].add(e.Off, min(end, max(inBlobs, e.Off)))
		}
		if size > 0 {
			end = max(min(end, size), e.Off)
		}
		k := a.file(e.Path, size, e.Time)
		for _, fresh := range a.reads[k].without(e.Off, end) {
			total += fresh[1] - fresh[0]
		}
		a.reads[k].add(e.Off, end)
		a.progress = append(a.progress, Point{e.Time, total})
		if !a.Measured {
			a.Files[k].bars = append(a.Files[k].bars, bar{at: e.Time})
			a.Length = max(a.Length, e.Time)
		}
	}
	if a.Length = max(a.Length, p.Ready); p.Ready > 0 && !a.Measured {
		a.phase("ready", p.Ready)
	}
}

// finish sums up.
func (a *analysis) finish() {
	for i := range a.Files {
		a.Files[i].Read = a.reads[i].sum()
		if a.tree == nil && a.Files[i].Read > 0 {
			a.Image.ReadBytes += a.Files[i].Read
			a.Image.Read++
		}
	}
	for _, t := range a.touched {
		if t != nil {
			a.Image.Read++
			a.Image.ReadBytes += t.sum()
		}
	}
	for i := range a.brought {
		if n := a.unseen(i); n > 0 {
			a.Image.InFiles++
			a.Image.Brought += n
		}
	}
	var any ranges
	for _, m := range a.Misses {
		any.add(int64(m.At), int64(m.At+m.Took))
	}
	a.Waits.Any = time.Duration(any.sum())
	a.healthy()
	slices.SortStableFunc(a.Files, func(x, y Used) int { return cmp.Compare(x.First, y.First) })
}
