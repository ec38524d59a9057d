// Package timeline keeps what happened to one image while it was read: who waited for which bytes, for how long and because of what, what was asked of which
// source, and how many bytes had come when.
//
// It knows ranges of blobs, and neither files nor what is fetched how. The one idea to hold in mind: a start is over within minutes and what comes later
// repeats itself, so the beginning is kept whole, then only what is latest; a [Recorder] never takes more than [MaxBytes].
package timeline

import (
	"fmt"
	"slices"
	"time"
)

// Kind says what an event is.
type Kind uint8

// The kinds.
const (
	Wait  Kind = iota // a reader waited for a range
	Touch             // a reader came to a range that was there already, and that the kernel had not cached
	Fetch             // a range was asked of its source
)

var kindNames = [...]string{"wait", "touch", "fetch"}

// String is the kind's name in JSON.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Kind) UnmarshalText(text []byte) error {
	i := slices.Index(kindNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("kind of event %q is unknown", text)
	}
	*k = Kind(i)
	return nil
}

// Event is one thing that happened. Times are kept in microseconds, how long something took up to 71 minutes.
type Event struct {
	Kind   Kind          `json:"kind"`
	Blob   int           `json:"blob"`             // which of the image's blobs
	At     time.Duration `json:"at_ns"`            // when it began, since the recorder did
	Off    int64         `json:"off"`              // of the range in the blob, bytes
	Len    int64         `json:"len"`              // bytes of the blob
	Took   time.Duration `json:"took_ns"`          // until it was over
	Cost   Cost          `json:"cost,omitzero"`    // what that time went to: of a Wait the part for which its reader waited
	Reason string        `json:"reason,omitempty"` // of a Fetch: why the bytes are fetched; of a Wait: why they were before its reader came
	Joined bool          `json:"joined,omitempty"` // of a Wait: the bytes, or some of them, were on their way already
	Bytes  int64         `json:"bytes,omitempty"`  // of a Fetch: bytes received from the source
	Site   string        `json:"site,omitempty"`   // of a Fetch: what was asked
	Try    int           `json:"try,omitempty"`    // of a Fetch: 1 for the first, up to 255
	Err    string        `json:"error,omitempty"`  // why it failed, "" if it did not
}

// Cost is what the time until bytes are there goes to.
type Cost struct {
	Queue    time.Duration `json:"queue_ns"`    // others' requests were in the way
	Server   time.Duration `json:"server_ns"`   // until the source's answer began, and between tries
	Transfer time.Duration `json:"transfer_ns"` // until the bytes had come
	Verify   time.Duration `json:"verify_ns"`   // they were unpacked, compared with their digest and written
}

// Backend is the part that is not pagein's own work.
func (c Cost) Backend() time.Duration { return c.Queue + c.Server + c.Transfer }

// Plus adds the parts.
func (c Cost) Plus(d Cost) Cost {
	return Cost{c.Queue + d.Queue, c.Server + d.Server, c.Transfer + d.Transfer, c.Verify + d.Verify}
}

// Minus returns what was added since c was before.
func (c Cost) Minus(before Cost) Cost {
	return Cost{c.Queue - before.Queue, c.Server - before.Server, c.Transfer - before.Transfer, c.Verify - before.Verify}
}

// Last returns what the last d of the time went to, for whoever began to wait so late. Bytes come and are verified piece by piece, so both count by their shares.
func (c Cost) Last(d time.Duration) Cost {
	d = max(d, 0)
	var last Cost
	if pieces := c.Transfer + c.Verify; d < pieces {
		last.Transfer = time.Duration(float64(d) * float64(c.Transfer) / float64(pieces))
		last.Verify = d - last.Transfer
		return last
	}
	last.Transfer, last.Verify = c.Transfer, c.Verify
	d -= c.Transfer + c.Verify
	last.Server = min(c.Server, d)
	last.Queue = min(c.Queue, d-last.Server)
	return last
}
