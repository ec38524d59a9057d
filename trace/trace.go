// Package trace makes access profiles of recorded touches: it knows which file of which image an inode is, what a container's processes are, and when a
// workload is ready.
//
// It knows the probes of package bpf, metadata images and profiles, and neither the daemon nor registries. The one idea to hold in mind: what is recorded is remembered page
// by page in the order of the first touches, and named only at the end, so that recording costs next to nothing while the workload starts.
package trace

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/pagein/pagein/bpf"
	"github.com/pagein/pagein/profile"
)

// maxTouches bounds what a recording remembers, at some 70 bytes each: more than a profile can have entries.
const maxTouches = 4 * profile.MaxEntries

// Recording collects touches. It is for one goroutine at a time.
type Recording struct {
	origin  time.Duration // CLOCK_MONOTONIC of time 0; 0 = that of the first touch
	touches []touch
	known   map[chunk]bits64
	full    int // touches that found no room
}

// touch is the first touch of pages of a chunk, as bpf.Touch without who it was.
type touch struct {
	chunk
	pages uint64
	at    time.Duration
	kind  bpf.Kind
}

// chunk is 64 pages of a file.
type chunk struct{ device, inode, page uint64 }

// bits64 are the pages of a chunk that have been touched, and of those the ones that are certain.
type bits64 struct{ any, sure uint64 }

// NewRecording begins a recording. Times count from origin (CLOCK_MONOTONIC), or, if it is 0, from the first touch.
func NewRecording(origin time.Duration) *Recording {
	return &Recording{origin: origin, known: make(map[chunk]bits64)}
}

// Add adds a touch; pages that are there already are left out. Touches may come a little out of order.
func (r *Recording) Add(t bpf.Touch) {
	c := chunk{t.Device, t.Inode, t.Page}
	known := r.known[c]
	fresh := t.Pages &^ known.any
	known.any |= t.Pages
	if t.Kind != bpf.Around {
		known.sure |= t.Pages
	}
	if fresh != 0 {
		if len(r.touches) == maxTouches {
			r.full++
			return
		}
		r.touches = append(r.touches, touch{c, fresh, t.Time, t.Kind})
	}
	r.known[c] = known
}

// Origin is the CLOCK_MONOTONIC that times count from; 0 if nothing has been touched yet that they could count from.
func (r *Recording) Origin() time.Duration {
	if r.origin != 0 || len(r.touches) == 0 {
		return r.origin
	}
	return slices.MinFunc(r.touches, func(a, b touch) int { return cmp.Compare(a.at, b.at) }).at
}

// Device says how much was touched in one mount.
type Device struct {
	Device uint64 // st_dev
	Pages  int
}

// Devices lists the mounts with touched pages, the most touched one first.
func (r *Recording) Devices() (list []Device) {
	count := make(map[uint64]int)
	for c, known := range r.known {
		count[c.device] += bits.OnesCount64(known.any)
	}
	for d, n := range count {
		list = append(list, Device{d, n})
	}
	slices.SortFunc(list, func(a, b Device) int {
		return cmp.Or(cmp.Compare(b.Pages, a.Pages), cmp.Compare(a.Device, b.Device))
	})
	return list
}

// File is what an inode stands for.
type File struct {
	Path string // in the image, from "/"
	Size int64  // bytes
}

// Summary says what became of a recording.
type Summary struct {
	Files   int   // that were touched
	Sure    int64 // bytes of whole pages that were touched for certain
	Around  int64 // bytes of whole pages that were mapped as neighbours
	Unnamed int   // pages of inodes that have no path
	Full    int   // ranges for which there was no room
}

// Profile names what was touched in one mount. files has the inodes' names.
func (r *Recording) Profile(device uint64, files map[uint64]File) (*profile.Profile, Summary) {
	sum := Summary{Full: r.full}
	touches := slices.Clone(r.touches)
	slices.SortStableFunc(touches, func(a, b touch) int { return cmp.Compare(a.at, b.at) })
	p := &profile.Profile{}
	seen := make(map[uint64]bool)
	origin := r.Origin()
	for _, t := range touches {
		if t.device != device {
			continue
		}
		f, ok := files[t.inode]
		if !ok {
			sum.Unnamed += bits.OnesCount64(t.pages)
			continue
		}
		if !seen[t.inode] {
			seen[t.inode] = true
			sum.Files++
		}
		sure := r.known[t.chunk].sure
		for pages := t.pages; pages != 0; {
			first, n, kind := run(pages, sure, t.kind)
			pages &^= (1<<n - 1) << first
			p.Entries = append(p.Entries, profile.Entry{
				Path: f.Path, Size: f.Size, Off: int64(t.page+uint64(first)) * profile.PageSize, Len: int64(n) * profile.PageSize, Time: max(t.at-origin, 0), Kind: kind,
			})
			if kind == profile.KindAround {
				sum.Around += int64(n) * profile.PageSize
			} else {
				sum.Sure += int64(n) * profile.PageSize
			}
		}
	}
	p.Coalesce()
	if more := len(p.Entries) - profile.MaxEntries; more > 0 {
		sum.Full += more
		p.Entries = p.Entries[:profile.MaxEntries]
	}
	return p, sum
}

// run returns the first pages that lie together and are equally certain. What was mapped as a neighbour and touched for certain later counts as a fault.
func run(pages, sure uint64, kind bpf.Kind) (first, n int, as profile.Kind) {
	first = bits.TrailingZeros64(pages)
	certain := sure
	if sure>>first&1 == 0 {
		certain = ^sure
	}
	n = bits.TrailingZeros64(^((pages & certain) >> first))
	switch {
	case sure>>first&1 == 0:
		as = profile.KindAround
	case kind == bpf.Read:
		as = profile.KindRead
	default:
		as = profile.KindFault
	}
	return first, n, as
}

// String says it in words, for people.
func (s Summary) String() string {
	text := fmt.Sprintf("%d files, %d KiB touched", s.Files, s.Sure>>10)
	if s.Around > 0 {
		text += fmt.Sprintf(", %d KiB mapped beside them", s.Around>>10)
	}
	if s.Unnamed > 0 {
		text += fmt.Sprintf(", %d pages of files without a name left out", s.Unnamed)
	}
	if s.Full > 0 {
		text += fmt.Sprintf(", no room for %d ranges", s.Full)
	}
	return text
}
