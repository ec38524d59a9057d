package imagestore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/errdefs"
)

// CanHand returns an error if containerd has no snapshotter of that name which images can be handed to. It names those that there are.
func (s *Store) CanHand(ctx context.Context, to string) error {
	names, err := s.snapshotters(ctx)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == s.o.Snapshotter })
	if slices.Contains(names, to) {
		return nil
	}
	return fmt.Errorf("containerd has no snapshotter %q that images could be unpacked for: it has %s", to, strings.Join(names, ", "))
}

// Known returns an error if containerd does not know the snapshotter.
func (s *Store) Known(ctx context.Context) error {
	names, err := s.snapshotters(ctx)
	if err == nil && !slices.Contains(names, s.o.Snapshotter) {
		err = fmt.Errorf("containerd does not know the snapshotter %q: it has %s", s.o.Snapshotter, strings.Join(names, ", "))
	}
	return err
}

// explain says what to do about an error if it is the snapshotter that cannot be reached, and not containerd.
func (s *Store) explain(ctx context.Context, err error) error {
	if errdefs.IsUnavailable(err) && s.Known(ctx) == nil {
		return fmt.Errorf("%w (start pageind: containerd cannot reach the snapshotter %s)", err, s.o.Snapshotter)
	}
	return err
}

// snapshotters are the names of those that work.
func (s *Store) snapshotters(ctx context.Context) (names []string, err error) {
	answer, err := s.client.IntrospectionService().Plugins(ctx, "type=="+string(plugins.SnapshotPlugin))
	if err != nil {
		return nil, fmt.Errorf("list containerd's snapshotters: %w", err)
	}
	for _, p := range answer.Plugins {
		if p.InitErr == nil {
			names = append(names, p.ID)
		}
	}
	return names, nil
}
