package snapshotter

import (
	"context"
	"log/slog"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/testsuite"

	"github.com/pagein/pagein/internal/require"
)

// TestOrdinaryImagesBehaveAsUnderOverlayfs is containerd's own suite for snapshotters.
func TestOrdinaryImagesBehaveAsUnderOverlayfs(t *testing.T) {
	require.Root(t)
	testsuite.SnapshotterSuite(t, "pagein", func(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
		// The suite renames directories, which kernels allow by default or not.
		s, err := New(Config{Root: root, MountOptions: []string{"redirect_dir=on"}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return nil, nil, err
		}
		return s, s.Close, nil
	})
}
