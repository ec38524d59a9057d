package lab

import (
	"context"
	"errors"
	"path/filepath"
)

// ServedNode is a pageind that is a snapshotter, and a containerd that uses it.
type ServedNode struct {
	*Containerd
	node *Node
}

// StartServedNode starts both with everything they keep below dir, which must exist and have nothing else in it. They run until Stop is called.
func StartServedNode(ctx context.Context, dir string) (*ServedNode, error) {
	socket := filepath.Join(dir, "snapshots.sock")
	node, err := StartNode(ctx, dir, "--snapshotter", "unix://"+socket)
	if err != nil {
		return nil, err
	}
	c, err := StartContainerd(ctx, dir, "pagein", socket)
	if err != nil {
		return nil, errors.Join(err, node.Stop())
	}
	return &ServedNode{c, node}, nil
}

// Node is the pageind of the two.
func (s *ServedNode) Node() *Node { return s.node }

// Programs returns what runs when a container is run, for [Warm].
func (s *ServedNode) Programs() []string {
	return append(s.Containerd.Programs(), s.node.Programs()...)
}

// Stop ends both.
func (s *ServedNode) Stop() error { return errors.Join(s.Containerd.Stop(), s.node.Stop()) }
