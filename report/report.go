// Package report tells people how an image was read: what they waited for, for how long and why, what of the image was never read, and what would make the next start faster.
//
// It knows what the daemon has recorded (package ondemand/timeline), profiles, and metadata images, and neither daemons nor networks. The one idea to hold in mind: one [Report] is
// made, and text, JSON and HTML say the same of it. Names of files are strangers' bytes: whatever shows one goes through [Printable].
package report

import (
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/timeline"
	"github.com/pagein/pagein/profile"
)

// Input is what a report is made of: a timeline or a profile.
type Input struct {
	Title    string            // "" for the timeline's image
	Timeline *control.Timeline // nil for a profile alone
	Profile  *profile.Profile  // what was touched, in place of what the timeline has
	Tree     *Tree             // nil if it is not known
	Link     float64           // bytes per second that are compared with; 0: as fast as the timeline shows
}

// Report is what can be said. Times count from the moment at which the mount was asked for, or recording began.
type Report struct {
	Title     string `json:"title"`
	ID        string `json:"id,omitempty"`
	Transport string `json:"transport,omitempty"`
	State     string `json:"state,omitempty"`
	Problem   string `json:"problem,omitempty"`
	Measured  bool   `json:"measured"` // there is a timeline: it is known who waited
	Adopted   bool   `json:"adopted,omitempty"`
	Unseen    bool   `json:"reads_unseen,omitempty"` // there may have been reads that are not told of: what is on the node the kernel may read without asking
	Left      int64  `json:"events_left_out,omitempty"`
	Deadline  string `json:"deadline,omitempty"`       // after which reads fail, as the daemon words it
	Hot       int64  `json:"hot_bytes,omitempty"`      // that the image has laid out for a workload
	Limit     int64  `json:"host_bandwidth,omitempty"` // bytes per second that the daemon asks of one host at most

	Began  time.Time     `json:"began,omitzero"`
	Length time.Duration `json:"length_ns"` // until what was last seen was over
	Phases []Phase       `json:"phases,omitempty"`

	Waits   Waits     `json:"waits"`
	Misses  []Miss    `json:"misses,omitempty"` // reads that waited, in the order in which they began
	Now     []Miss    `json:"waiting_now,omitempty"`
	Fetched []Fetched `json:"fetched,omitempty"`
	Sites   []Site    `json:"sites,omitempty"`
	Errors  []Failure `json:"errors,omitempty"`

	Files []Used    `json:"files"` // that were wanted, in the order in which they first were
	Image ImageSize `json:"image"`
	Curve Curve     `json:"curve"`

	Advice []string `json:"advice"`

	tree     *Tree
	touched  []*ranges // of each file of the tree
	brought  []*ranges // by prefetching
	progress []Point   // bytes that a profile has touched, in its order
}

// Phase is a moment before or while the image was read.
type Phase struct {
	Name string        `json:"name"`
	At   time.Duration `json:"at_ns"`
}

// Waits sums up the reads that waited.
type Waits struct {
	Count   int           `json:"count"`
	Sum     time.Duration `json:"sum_ns"` // of all of them
	Any     time.Duration `json:"any_ns"` // in which at least one waited
	Longest time.Duration `json:"longest_ns"`
	Joined  int           `json:"joined"` // that came when the bytes were on their way already, and got them
	Failed  int           `json:"failed"`
	Late    int           `json:"late"`       // of the failed, those that had waited until the deadline
	Cost    timeline.Cost `json:"cost"`       // what the sum went to
	InVain  time.Duration `json:"in_vain_ns"` // and what of it, beside that, failed reads waited for: an answer that did not come, another attempt

	// Of reads that no failure held up: what could be made faster.
	Healthy Healthy `json:"healthy"`
}

// Healthy sums up reads that no failure held up.
type Healthy struct {
	Sum  time.Duration `json:"sum_ns"`
	Any  time.Duration `json:"any_ns"`
	Cost timeline.Cost `json:"cost"`
}

// Miss is a read that waited.
type Miss struct {
	Path   string        `json:"path"` // "" if it is not known
	Off    int64         `json:"off"`  // in the file, or else in its blob
	Len    int64         `json:"len"`
	At     time.Duration `json:"at_ns"`
	Took   time.Duration `json:"took_ns"`
	Cost   timeline.Cost `json:"cost"`
	Joined string        `json:"joined,omitempty"` // why the bytes were on their way already
	Err    string        `json:"error,omitempty"`
	HeldUp bool          `json:"held_up,omitempty"` // it failed, or a request for its bytes did

	blob, off, len int64 // where its bytes are
}

// Fetched is what was fetched for one reason.
type Fetched struct {
	Reason   string `json:"reason"`
	Requests int    `json:"requests"`
	Bytes    int64  `json:"bytes"` // compressed, in place
}

// Site is what was asked.
type Site struct {
	Name     string        `json:"name"`
	Requests int           `json:"requests"`
	Failed   int           `json:"failed"`
	Bytes    int64         `json:"bytes"`
	Answer   time.Duration `json:"answer_ns"` // until half of the answers began
}

// Failure is the cause of errors: how often it came, and when the first and the last of what it met was over. What a request fails with a reader may be told, too: both count.
type Failure struct {
	Text  string        `json:"text"`
	Count int           `json:"count"`          // requests and reads that failed
	Reads int           `json:"reads"`          // of these
	Site  string        `json:"site,omitempty"` // what was asked by the first of the requests
	First time.Duration `json:"first_ns"`
	Last  time.Duration `json:"last_ns"`
}

// Used is a file that was wanted.
type Used struct {
	Path    string        `json:"path"` // "" for what belongs to no file that is known
	Size    int64         `json:"size"` // of its data in blobs, 0 if that is not known
	First   time.Duration `json:"first_ns"`
	Read    int64         `json:"read"` // bytes that were wanted, and came
	Waits   int           `json:"waits"`
	Waited  time.Duration `json:"waited_ns"` // by all readers
	Longest time.Duration `json:"longest_ns"`
	Failed  int           `json:"failed,omitempty"`

	bars []bar
}

// bar is a stretch of time in which a file was waited for, or in which it was touched.
type bar struct {
	at, took time.Duration
	cost     timeline.Cost
	failed   bool
}

// ImageSize is how much there is.
type ImageSize struct {
	Files      int   `json:"files"` // that are not empty
	Read       int   `json:"files_read"`
	Bytes      int64 `json:"bytes"`            // of these, without what lies in the metadata image
	ReadBytes  int64 `json:"bytes_read"`       // that were wanted, and came
	Brought    int64 `json:"bytes_prefetched"` // that were prefetched, and are not known to have been read
	InFiles    int   `json:"files_prefetched"` // which have some of them
	Compressed int64 `json:"compressed"`       // all of it, as it would be fetched; 0 if that is not known
	Fetched    int64 `json:"fetched"`          // compressed, since the recording began
	MetaBytes  int64 `json:"meta_bytes"`       // of the metadata image, which is not in the others
	OnNode     int64 `json:"bytes_on_node"`
}

// Make makes a report.
func Make(in Input) *Report {
	r := &Report{Title: in.Title, Advice: []string{}, Files: []Used{}, tree: in.Tree}
	a := analysis{Report: r, files: make(map[string]int)}
	if in.Tree != nil {
		r.touched, r.brought = make([]*ranges, len(in.Tree.Files)), make([]*ranges, len(in.Tree.Files))
		r.Image.Files = len(in.Tree.Files)
		for _, f := range in.Tree.Files {
			r.Image.Bytes += f.Size
		}
	}
	if in.Timeline != nil {
		a.timeline(in.Timeline)
	}
	if in.Profile != nil {
		a.profile(in.Profile)
	}
	a.finish()
	r.Curve = makeCurve(r, in.Timeline, in.Link)
	r.advise()
	return r
}
