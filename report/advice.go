package report

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pagein/pagein/ondemand/timeline"
)

const (
	// muchUnread is the part of an image from which on a directory of which nothing was read is worth a word, in percent.
	muchUnread = 4
	// maxUnread bounds how many of them are named.
	maxUnread = 5
	// worthPrefetching is how long readers must have waited for advice to prefetch.
	worthPrefetching = 200 * time.Millisecond
	// nearLimit is the part of what the daemon asks for from which on that, and not the link, is why no more comes.
	nearLimit = 0.7
)

// advise says in words what could be done.
func (r *Report) advise() {
	say := func(format string, args ...any) { r.Advice = append(r.Advice, fmt.Sprintf(format, args...)) }
	w, c := r.Waits, r.Curve
	for _, e := range r.Errors[:min(len(r.Errors), 3)] {
		say("%s failed, %s: %s. What it cost is part of the times here. %s", e.what(), e.when(), Printable(e.Text), r.remedy(e))
	}
	if len(r.Now) > 0 {
		say("%s; the first for %s.", r.waitingNow(), r.Now[0].where())
	}
	if r.Measured && w.Count == 0 && r.Image.Fetched == 0 && len(r.Now) == 0 {
		say("Nobody had to wait: all that was read was on this node already. To see a first start, mount the image where it was not used before.")
	}
	if r.Measured && w.Count == 0 && r.Image.Fetched > 0 && len(r.Now) == 0 {
		say("No read waited: what was wanted was there before.")
	}
	if r.Unseen {
		say("Not all reads are seen: what is complete on this node the kernel reads without asking, and through cachefiles all that is there. So more was read than is told here.")
	}
	if !r.Measured && len(r.Files) > 0 {
		say("pagein optimize --profile puts this first in the image, and nodes fetch it in one go when they mount it: %s, %s.", count(r.Image.Read, "file", "files"), r.Image.part())
	}
	if r.Adopted {
		say("An earlier pageind mounted the image; what happened before %s is not known any more.", r.Began.Format(time.DateTime))
	}
	if h := w.Healthy; h.Any >= worthPrefetching && r.Hot > 0 {
		say("Readers waited for %s, though %s of the image are laid out for a workload: what this one reads is not in there, or was wanted before it had come. If it is what the image is for, record it (pagein trace) and optimize anew.", seconds(h.Any), bytes(r.Hot))
	} else if h.Any >= worthPrefetching {
		text := fmt.Sprintf("Readers waited for %s. Record what the workload touches (pagein trace, or pagein profile suggest) and put this first in the image (pagein optimize): %s, %s",
			seconds(h.Any), count(r.Image.Read, "file", "files"), r.Image.part())
		if c.Prefetched > 0 && c.Prefetched < r.Length {
			text += fmt.Sprintf(", which at %s are there %s after the mount", rate(c.Link), seconds(c.Prefetched))
		}
		say("%s.", text)
	}
	if name, part := largest(w.Healthy.Cost); w.Healthy.Any >= worthPrefetching && part*2 > w.Healthy.Sum {
		switch name {
		case "server":
			say("Most of the waiting is for the first byte of answers: many small misses over a link that takes its time, or a server that does. Fewer, larger requests help: that is what optimize is for; a mirror nearby would too.")
		case "transfer":
			say("Most of the waiting is for bytes on their way: %s is the limit. What is not wanted should not be fetched (read-around, prefetch), and what is, be in the order of its use (pagein optimize).", r.bottleneck())
		case "queue":
			say("Most of the waiting is for a free request: others were in the way. host-requests allows more of them at a time.")
		case "verify":
			say("Most of the waiting is for pagein's own work, unpacking and verifying: the node has too few processors for its link, or a disk that does not keep up.")
		}
	}
	r.adviseGuesses(say)
	if w.Failed > 0 {
		say("%s: programs get EIO, or SIGBUS where they have mapped the file. Reads that come one after the other wait for that long each.", r.failed())
	}
	r.adviseUnread(say)
	if len(r.Advice) == 0 {
		say("Nothing is to be improved that can be seen from here.")
	}
}

// bottleneck is what bytes come through.
func (r *Report) bottleneck() string {
	if r.Limit > 0 && (!r.Curve.Measured || r.Curve.Link > float64(r.Limit)*nearLimit) {
		return fmt.Sprintf("host-bandwidth (%s/s)", bytes(r.Limit))
	}
	return "the link"
}

// part is how much was read, of how much if that is known.
func (i ImageSize) part() string {
	if i.Bytes == 0 {
		return bytes(i.ReadBytes)
	}
	return bytes(i.ReadBytes) + " of " + bytes(i.Bytes)
}

// adviseGuesses speaks of what was fetched and not used.
func (r *Report) adviseGuesses(say func(string, ...any)) {
	if !r.Measured || r.Image.Bytes == 0 || r.tree == nil {
		return
	}
	used := r.Curve.PrefetchBytes
	guessed := make(map[string]int64)
	for _, f := range r.Fetched {
		guessed[f.Reason] += f.Bytes
	}
	if spare := min(r.Image.Fetched-used, guessed["ahead"]+guessed["around"]); spare > r.Image.Fetched/2 && spare > 4<<20 {
		text := fmt.Sprintf("Of the %s that were fetched, %s were guessed around misses and %s came ahead of readers in order; about %s of these have not been read yet. They took time in which nobody waited",
			bytes(r.Image.Fetched), bytes(guessed["around"]), bytes(guessed["ahead"]), bytes(spare))
		if guessed["around"] > guessed["ahead"] {
			text += "; where bytes cost money, set read-around = \"none\""
		}
		say("%s.", text)
	}
}

// adviseUnread names directories that are large, and of which nothing was read.
func (r *Report) adviseUnread(say func(string, ...any)) {
	if r.tree == nil || r.Image.Bytes == 0 || r.Image.ReadBytes == 0 || r.Unseen {
		return
	}
	var list []*dir
	var look func(*dir)
	look = func(d *dir) {
		if d.size*100 < r.Image.Bytes*muchUnread {
			return
		}
		if d.read == 0 {
			list = append(list, d)
			return
		}
		for _, below := range d.below {
			look(below)
		}
	}
	look(r.directories())
	slices.SortFunc(list, func(a, b *dir) int { return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.path, b.path)) })
	var names []string
	sum := int64(0)
	for _, d := range list {
		sum += d.size
		if len(names) < maxUnread {
			names = append(names, fmt.Sprintf("%s (%s)", Printable(d.path), bytes(d.size)))
		}
	}
	if len(names) > 0 {
		say("The image carries %s of which nothing was read this time: %s. If no workload needs that, leave it out of the image.", bytes(sum), strings.Join(names, ", "))
	}
}

// dir is a directory, or a file, of the image.
type dir struct {
	path       string
	size, read int64
	brought    int64 // that were prefetched, beside what was read
	files      int
	below      []*dir
	leaf       bool // a file
}

// directories is the tree of the image, with sizes, the largest first.
func (r *Report) directories() *dir {
	root := &dir{path: "/"}
	known := map[string]*dir{"/": root}
	var at func(p string) *dir
	at = func(p string) *dir {
		d := known[p]
		if d == nil {
			d = &dir{path: p}
			known[p] = d
			above := at(path.Dir(p))
			above.below = append(above.below, d)
		}
		return d
	}
	for i, f := range r.tree.Files {
		read := int64(0)
		if t := r.touched[i]; t != nil {
			read = min(t.sum(), f.Size)
		}
		d := at(path.Dir(f.Path))
		d.below = append(d.below, &dir{path: f.Path, size: f.Size, read: read, brought: min(r.unseen(i), f.Size-read), files: 1, leaf: true})
	}
	root.sum()
	return root
}

// unseen is how much of a file was prefetched and is not known to have been read: what is complete on the node the kernel reads without asking.
func (r *Report) unseen(file int) int64 {
	if r.brought[file] == nil {
		return 0
	}
	return r.brought[file].minus(r.touched[file])
}

func (d *dir) sum() {
	for _, b := range d.below {
		b.sum()
		d.size += b.size
		d.read += b.read
		d.brought += b.brought
		d.files += b.files
	}
	slices.SortFunc(d.below, func(a, b *dir) int { return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.path, b.path)) })
}

// parts are what waiting is for, in the order in which it happens.
func parts(c timeline.Cost) []struct {
	Name string
	Took time.Duration
} {
	type part = struct {
		Name string
		Took time.Duration
	}
	return []part{{"queue", c.Queue}, {"server", c.Server}, {"transfer", c.Transfer}, {"verify", c.Verify}}
}

// largest is the part that took longest.
func largest(c timeline.Cost) (name string, took time.Duration) {
	for _, p := range parts(c) {
		if p.Took > took {
			name, took = p.Name, p.Took
		}
	}
	return name, took
}
