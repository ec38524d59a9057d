package node

import (
	"slices"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand"
)

// policy is how an image is read: what its mount asked for, or the node's choice at that time.
type policy struct {
	Deadline time.Duration `json:",omitempty"` // as [ondemand.Blob.SetDeadline] has it
	Prefetch bool          `json:",omitempty"` // all of it, in the background
}

// policy reads a request's wishes.
func (n *Node) policy(want control.Policy) (p policy, err error) {
	p = policy{Prefetch: n.cfg.Prefetch}
	if want.Deadline != "" {
		if p.Deadline, err = control.ParseDeadline(want.Deadline); err != nil {
			return p, control.Errorf(control.Invalid, "%w", err)
		}
	}
	if want.Prefetch != "" {
		if p.Prefetch, err = control.ParsePrefetch(want.Prefetch); err != nil {
			return p, control.Errorf(control.Invalid, "%w", err)
		}
	}
	return p, nil
}

// words is a policy for people, with the node's choices where it has none.
func (n *Node) words(p policy) control.Policy {
	if p.Deadline == 0 {
		p.Deadline = n.engine.Deadline()
	}
	return control.NewPolicy(p.Deadline, p.Prefetch)
}

// setDeadlines gives each blob the most patient deadline of the images that use it: who misses it is not known. The caller holds n.mu.
func (n *Node) setDeadlines(blobs []*ondemand.Blob) {
	patience := func(d time.Duration) time.Duration {
		if d == 0 {
			d = n.engine.Deadline()
		}
		if d < 0 {
			d = 1<<63 - 1
		}
		return d
	}
	for _, b := range blobs {
		most, found := time.Duration(0), false
		for _, img := range n.images {
			if !slices.Contains(img.attached.Blobs, b) {
				continue
			}
			if d := img.Policy.Deadline; !found || patience(d) > patience(most) {
				most, found = d, true
			}
		}
		b.SetDeadline(most)
	}
}

// adjust gives an image that is attached already what one more mount of it asks for. The caller holds n.mu.
func (n *Node) adjust(img *image, p policy) {
	if p.Deadline != 0 {
		img.Policy.Deadline = p.Deadline
		n.setDeadlines(img.attached.Blobs)
	}
	if p.Prefetch {
		img.Policy.Prefetch = true
		n.prefetch(img)
	}
}
