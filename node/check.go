package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/node/storecheck"
)

// loggedProblems is how many of the problems that a check finds are in the log; the answer lists more.
const loggedProblems = 10

// CheckStore verifies all that is in the store, while it is in use. Checks take turns.
func (n *Node) CheckStore(ctx context.Context, req control.CheckRequest) (control.CheckResponse, error) {
	select {
	case n.checking <- struct{}{}:
		defer func() { <-n.checking }()
	case <-ctx.Done():
		return control.CheckResponse{}, context.Cause(ctx)
	}
	if err := n.enter(); err != nil {
		return control.CheckResponse{}, err
	}
	n.mu.Unlock()
	resp, err := storecheck.Run(ctx, n.store, req, storeUser{n})
	if err == nil {
		n.noteCheck(resp)
		level := slog.LevelInfo
		if resp.Problems > 0 {
			level = slog.LevelError
		}
		for _, p := range resp.ProblemList[:min(len(resp.ProblemList), loggedProblems)] {
			n.log.Error("the store is damaged", "part", p.Part, "where", p.Where, "err", p.What, "images", p.Images, "repaired", p.Repaired, "note", p.Note)
		}
		n.log.Log(ctx, level, "checked the store", "frames", resp.Frames, "bytes", resp.FrameBytes, "problems", resp.Problems, "repair", req.Repair)
	}
	return resp, err
}

// storeUser implements storecheck.User.
type storeUser struct{ n *Node }

// InUse reports whether the image is attached, or was by a predecessor, or is about to be.
func (u storeUser) InUse(meta string) bool {
	u.n.mu.Lock()
	defer u.n.mu.Unlock()
	is := func(i imageState) bool { return i.ID == meta }
	return u.n.images[meta] != nil || u.n.pins[meta] > 0 || slices.ContainsFunc(u.n.lost, is) || slices.ContainsFunc(u.n.absent, is)
}

// Refs names the images that use a metadata image or a blob.
func (u storeUser) Refs(id string) (refs []string) {
	u.n.mu.Lock()
	defer u.n.mu.Unlock()
	note := func(r record) {
		if slices.Contains(r.parts(), id) && !slices.Contains(refs, r.Origin.Ref) {
			refs = append(refs, r.Origin.Ref)
		}
	}
	for _, img := range u.n.images {
		note(img.record)
	}
	for _, i := range slices.Concat(u.n.lost, u.n.absent) {
		note(i.record)
	}
	slices.Sort(refs)
	return refs
}

// SaveState writes the mount table.
func (u storeUser) SaveState() error {
	u.n.mu.Lock()
	defer u.n.mu.Unlock()
	return u.n.save()
}

// Reload puts a sound file in the place of a metadata image or map that is in use. Who uses the damaged one goes on to.
func (u storeUser) Reload(ctx context.Context, id string) (string, error) {
	r, ok := u.user(id)
	if !ok {
		return "", errors.New("nobody knows where it is from")
	}
	again, err := u.n.load(ctx, r.Origin)
	if err != nil {
		return "", err
	}
	defer u.n.unpin(again)
	if !slices.Contains(again.parts(), id) {
		return "", fmt.Errorf("%s is another image now", r.Origin.Ref)
	}
	if id == r.ID {
		return "programs see the damaged one until the image is unmounted", nil
	}
	return "pageind uses the damaged one until it is restarted, or all images of the blob are unmounted", nil
}

// user returns an image that has a part.
func (u storeUser) user(id string) (record, bool) {
	u.n.mu.Lock()
	defer u.n.mu.Unlock()
	for _, img := range u.n.images {
		if slices.Contains(img.parts(), id) {
			return img.record, true
		}
	}
	for _, i := range slices.Concat(u.n.lost, u.n.absent) {
		if slices.Contains(i.parts(), id) {
			return i.record, true
		}
	}
	return record{}, false
}

// Refetch fills a range of a blob that is in use. Readers of it cannot be told what they have read.
func (u storeUser) Refetch(ctx context.Context, blob string, off, n int64) (string, error) {
	u.n.mu.Lock()
	b := u.n.blobs[blob]
	u.n.mu.Unlock()
	if b == nil {
		return "", nil
	}
	return "it was in use: programs may have read it, and what the kernel has cached of it stays until the image is unmounted", b.Fill(ctx, off, n)
}
