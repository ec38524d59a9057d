package control

import (
	"time"

	"github.com/pagein/pagein/ondemand/timeline"
)

// Timeline is what happened to a mounted image, as far as the daemon remembers: it keeps the beginning and what is latest, since it was started. Events are about ranges of blobs; the
// metadata image tells which files these are.
type Timeline struct {
	Image       Image  `json:"image"`
	Meta        string `json:"meta"`                // file of the metadata image
	SourceBytes int64  `json:"source_bytes"`        // of all that could be fetched, compressed, without the metadata
	HotBytes    int64  `json:"hot_bytes,omitempty"` // of data that comes first in the image, as a profile of a workload wants it

	HostBandwidth int64 `json:"host_bandwidth,omitempty"` // source bytes per second that are asked of one host at most, 0 for no limit

	Asked   time.Time `json:"asked,omitzero"`   // when the mount was asked for that the image was attached for; zero if there is none, as for an image that an earlier daemon mounted
	Loaded  time.Time `json:"loaded,omitzero"`  // when its metadata was on this node
	Mounted time.Time `json:"mounted,omitzero"` // when it was mounted for the first time
	Adopted bool      `json:"adopted"`          // an earlier daemon served it, whose events are not known here
	Now     time.Time `json:"now"`

	timeline.Snapshot
	Waiting []Waiter `json:"waiting"` // readers that wait now, those that have for longest first, at most 100
}

// Waiter is a reader that waits for a range.
type Waiter struct {
	Blob int           `json:"blob"`
	Off  int64         `json:"off"`
	Len  int64         `json:"len"`
	For  time.Duration `json:"for_ns"`
}

// Recordings are what is kept of an image's first minutes, the oldest first.
type Recordings struct {
	Meta       string      `json:"meta,omitempty"` // file of the metadata image, "" if it is not on this node
	Recordings []Recording `json:"recordings"`
}

// Recording is what the kernel asked for of an image, from its first question for a minute.
type Recording struct {
	Image   string        `json:"image"`
	Ref     string        `json:"ref"`
	Began   time.Time     `json:"began"`
	Touches []Touch       `json:"touches"` // in order
	Ended   time.Duration `json:"ended_ns"`
}

// Touch is a range that the kernel asked for.
type Touch struct {
	Blob int           `json:"b"`
	Off  int64         `json:"o"`
	Len  int64         `json:"n"`
	At   time.Duration `json:"t"` // since the recording began
}
