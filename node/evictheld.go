package node

import (
	"slices"

	"github.com/pagein/pagein/node/control"
)

// held sums up what of the store cannot be evicted now, in bytes by reason, see [control.Cache]. The caller holds n.mu.
func (n *Node) held() (map[string]int64, error) {
	all, err := n.kept()
	if err != nil {
		return nil, err
	}
	needed := n.needed()
	whole, untracked := n.transports.fixed()
	ranges := make(map[string]bool) // of these blobs may go
	if n.evictor.limits.MountedRanges {
		for _, m := range n.mountedBlobs() {
			ranges[m.blob.ID()] = true
		}
	}
	held := make(map[string]int64)
	for _, o := range all {
		switch {
		case !needed[o.ID] && !o.Open: // all of it may go
		case slices.Contains(whole, o.ID):
			held[control.HeldComplete] += o.Allocated
		case slices.Contains(untracked, o.ID):
			held[control.HeldUntracked] += o.Allocated
		case !ranges[o.ID]:
			held[control.HeldMounted] += o.Allocated
		}
	}
	return held, nil
}
