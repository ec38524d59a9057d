package node

import (
	"context"
	"math"

	"github.com/pagein/pagein/node/control"
)

// GC removes from the store what nobody has mounted, or only says what that would be.
func (n *Node) GC(_ context.Context, req control.GCRequest) (control.GCResponse, error) {
	want := amount{bytes: math.MaxInt64, files: math.MaxInt64}
	if req.Bytes > 0 {
		want = amount{bytes: req.Bytes}
	}
	if err := n.enter(); err != nil {
		return control.GCResponse{}, err
	}
	defer n.mu.Unlock()
	gone, freed, err := n.evictIdle(want, req.DryRun)
	resp := control.GCResponse{DryRun: req.DryRun, Bytes: freed.bytes, Evicted: gone}
	if resp.Evicted == nil {
		resp.Evicted = []control.Evicted{}
	}
	if !req.DryRun && len(gone) > 0 {
		n.evictor.count(evictedByRequest, freed.bytes)
		n.log.Info("removed what nobody has mounted", "objects", len(gone), "bytes", freed.bytes)
	}
	return resp, err
}
