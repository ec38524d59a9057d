// Package storecheck answers a request to check a store, whether the daemon is asked or there is none and the store is at rest. It knows the scrub and the words of the answer.
package storecheck

import (
	"context"
	"fmt"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/scrub"
	"github.com/pagein/pagein/ondemand/store"
)

// maxListed bounds how many problems are listed: a damaged disk can have millions.
const maxListed = 1000

// User knows what of a store is in use. A store at rest has none.
type User interface {
	// InUse reports whether a metadata image is mounted, or may be.
	InUse(meta string) bool
	// Refs names the images that use a metadata image, or a blob.
	Refs(id string) []string
	// SaveState writes the daemon's records anew.
	SaveState() error
	// Reload fetches a metadata image or a map anew that is in use. It says who has the damaged one still.
	Reload(ctx context.Context, id string) (note string, err error)
	// Refetch brings back bytes that were found bad, if the blob is in use. It says what readers may have seen, or "".
	Refetch(ctx context.Context, blob string, off, n int64) (note string, err error)
}

// Run checks a store that belongs to this process. user may be nil.
func Run(ctx context.Context, s *store.Store, req control.CheckRequest, user User) (control.CheckResponse, error) {
	a := answer{ctx: ctx, user: user, repair: req.Repair, CheckResponse: control.CheckResponse{Root: s.Root(), OK: true}}
	o := scrub.Options{Repair: req.Repair, Problem: a.problem}
	if user != nil {
		o.InUse = user.InUse
	}
	r, err := scrub.Store(ctx, s, o)
	if err != nil {
		return control.CheckResponse{}, err
	}
	a.Metas, a.Maps, a.Blobs, a.UnknownBlobs, a.Frames, a.FrameBytes = r.Metas, r.Maps, r.Blobs, r.Unknown, r.Frames, r.Bytes
	return a.CheckResponse, nil
}

// answer collects problems.
type answer struct {
	control.CheckResponse
	ctx    context.Context
	user   User
	repair bool
}

func (a *answer) problem(p scrub.Problem) {
	w := control.CheckProblem{Part: string(p.Part), Where: p.ID, What: p.Err.Error(), Repaired: p.Repaired}
	if p.Part == scrub.PartFrame {
		w.Where = fmt.Sprintf("%d of blob %s (bytes %d to %d)", p.Frame, p.ID, p.Off, p.Off+p.Len)
	}
	if a.user != nil {
		w.Images = a.user.Refs(p.ID)
	}
	switch {
	case !a.repair:
	case p.Part == scrub.PartState && a.user != nil:
		if err := a.user.SaveState(); err != nil {
			w.Note = err.Error()
		} else {
			w.Repaired = true
		}
	case p.Part == scrub.PartFrame && a.user != nil:
		note, err := a.user.Refetch(a.ctx, p.ID, p.Off, p.Len)
		if err != nil {
			w.Repaired, note = false, "it is in use and could not be fetched again: "+err.Error()
		}
		w.Note = note
	case p.Part == scrub.PartState:
		w.Note = "the next pageind writes it anew"
	case !p.Repaired && a.user != nil:
		note, err := a.user.Reload(a.ctx, p.ID)
		if err != nil {
			note = "it is in use and could not be fetched again: " + err.Error()
		}
		w.Repaired, w.Note = err == nil, note
	}
	a.OK = a.OK && w.Repaired
	a.Problems++
	if len(a.ProblemList) < maxListed {
		a.ProblemList = append(a.ProblemList, w)
	}
}
