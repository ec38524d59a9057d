package snapshotter

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// TestPullsStartsAndRemovalsAtOnceAgree has clients pull the same image, start a container of it and remove all again, without regard for each other. A container has its image as long as it
// is there, and in the end nothing is left.
func TestPullsStartsAndRemovalsAtOnceAgree(t *testing.T) {
	l := newLab(t)
	var clients sync.WaitGroup
	for client := range 4 {
		clients.Go(func() {
			for round := range 5 {
				if err := l.visit(fmt.Sprintf("%d-%d", client, round)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
	if err := l.Cleanup(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(l.root, "snapshots")); err != nil || len(left) > 0 || len(l.mounted()) > 0 {
		t.Errorf("left: %v, %v; mounted: %v", left, err, l.mounted())
	}
}

// visit is what one client does. Others may remove what it has pulled before it makes a container, but not afterwards.
func (l *lab) visit(name string) error {
	parent := ""
	for _, c := range l.chains {
		_, err := l.Prepare(l.Context(), "extract-"+name, parent, snapshots.WithLabels(labels(c)))
		if errdefs.IsNotFound(err) {
			return nil
		}
		if !errdefs.IsAlreadyExists(err) {
			return fmt.Errorf("layer %s is not there: %w: %s", c, err, l.log)
		}
		parent = c.String()
	}
	container := "container-" + name
	mounts, err := l.Prepare(l.Context(), container, parent)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make a container: %w", err)
	}
	lower := l.lower(mounts)
	b, err := os.ReadFile(filepath.Join(lower[len(lower)-1], "from"))
	if err != nil || len(lower) != 1 || string(b) != l.artifact().Artifact {
		return fmt.Errorf("container lies on %v: %q, %w", lower, b, err)
	}
	for _, key := range []string{container, l.chains[2].String(), l.chains[1].String(), l.chains[0].String()} {
		if err := l.Remove(l.Context(), key); err != nil && (key == container || !errdefs.IsNotFound(err) && !errdefs.IsFailedPrecondition(err)) {
			return fmt.Errorf("remove %s: %w", key, err)
		}
	}
	return nil
}
