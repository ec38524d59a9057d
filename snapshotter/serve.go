package snapshotter

import (
	"context"
	"fmt"
	"net"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	"google.golang.org/grpc"
)

// stopTimeout is how long calls under way may take when serving ends.
const stopTimeout = 5 * time.Second

// Serve answers all who connect to a listener, which it closes, until ctx is done. Options may have the server answer more than this.
func (s *Snapshotter) Serve(ctx context.Context, l net.Listener, more ...grpc.ServerOption) error {
	server := grpc.NewServer(more...)
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(s))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve snapshots at %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	timer := time.AfterFunc(stopTimeout, server.Stop)
	server.GracefulStop()
	timer.Stop()
	return <-ended
}
