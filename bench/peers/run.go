package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
)

// runImage pulls an image and runs a command in a container of it, as "ctr run --rm" does, to its end.
func runImage(ctx context.Context, socket, snapshotter, ref string, args []string) (err error) {
	const name = "bench"
	ctx = namespaces.WithNamespace(ctx, namespaces.Default)
	client, err := containerd.New(socket)
	if err != nil {
		return err
	}
	defer client.Close()
	image, err := pull(ctx, client, snapshotter, ref)
	if err != nil {
		return err
	}
	container, err := client.NewContainer(ctx, name, containerd.WithSnapshotter(snapshotter), containerd.WithNewSnapshot(name, image),
		containerd.WithNewSpec(oci.WithImageConfig(image), oci.WithProcessArgs(args...)))
	if err != nil {
		return fmt.Errorf("make a container of %s: %w", ref, err)
	}
	defer func() {
		err = errors.Join(err, container.Delete(context.WithoutCancel(ctx), containerd.WithSnapshotCleanup))
	}()
	task, err := container.NewTask(ctx, cio.NewCreator(cio.WithStreams(nil, os.Stdout, os.Stderr)))
	if err != nil {
		return fmt.Errorf("make a task: %w", err)
	}
	defer func() {
		_, deleteErr := task.Delete(context.WithoutCancel(ctx), containerd.WithProcessKill)
		err = errors.Join(err, deleteErr)
	}()
	exited, err := task.Wait(ctx)
	if err != nil {
		return err
	}
	if err := task.Start(ctx); err != nil {
		return fmt.Errorf("start %q: %w", args, err)
	}
	if status := <-exited; status.ExitCode() != 0 || status.Error() != nil {
		return fmt.Errorf("%q ended with status %d: %w", args, status.ExitCode(), errors.Join(status.Error(), errFailed))
	}
	return nil
}

var errFailed = errors.New("the command failed")
