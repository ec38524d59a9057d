package imagestore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/plugins"
)

// CanHand returns an error if containerd has no snapshotter of that name which images can be handed to. It names those that there are.
func (s *Store) CanHand(ctx context.Context, to string) error {
	answer, err := s.client.IntrospectionService().Plugins(ctx, "type=="+string(plugins.SnapshotPlugin))
	if err != nil {
		return fmt.Errorf("list containerd's snapshotters: %w", err)
	}
	var names []string
	for _, p := range answer.Plugins {
		if p.InitErr == nil && p.ID != s.o.Snapshotter {
			names = append(names, p.ID)
		}
	}
	if slices.Contains(names, to) {
		return nil
	}
	return fmt.Errorf("containerd has no snapshotter %q that images could be unpacked for: it has %s", to, strings.Join(names, ", "))
}
