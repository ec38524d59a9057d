package main

import (
	"context"
	"fmt"
	"net"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	"github.com/containerd/stargz-snapshotter/fs/config"
	"github.com/containerd/stargz-snapshotter/service"
	"google.golang.org/grpc"
)

// serveStargz is containerd-stargz-grpc: the snapshotter's own service package behind containerd's API, with the defaults that its documentation names. The
// program itself is in a Go module that no proxy has; it adds a command line, a configuration file and keychains.
func serveStargz(ctx context.Context, socket, root string) error {
	cfg := &service.Config{Config: config.Config{
		DirectoryCacheConfig: config.DirectoryCacheConfig{Direct: true},
		FuseConfig:           config.FuseConfig{MergeBufferSize: 419430400, MergeWorkerCount: 10},
	}}
	snapshotter, err := service.NewStargzSnapshotterService(ctx, root, cfg)
	if err != nil {
		return err
	}
	defer snapshotter.Close()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", socket, err)
	}
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	defer context.AfterFunc(ctx, server.Stop)()
	return server.Serve(listener)
}
