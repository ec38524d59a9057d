package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/pagein/pagein/internal/servertest"
)

// TestKubernetesRunsPodsOfImagesThatAreNotFetched goes through the life of a pod, from the pull to the removal of the image.
func TestKubernetesRunsPodsOfImagesThatAreNotFetched(t *testing.T) {
	beside(t)
	withEachContainerd(t, func(t *testing.T, o servertest.ContainerdOptions) {
		l := newCRILab(t, o)
		image := l.push("app", l.layers...)
		l.pagein("convert", "--quiet", image)
		before := l.gate.of(l.layers...)
		l.pullImage(l.images, image, nil)
		if n := l.gate.of(l.layers...) - before; n > 0 {
			t.Errorf("%d bytes of layers were fetched: %s", n, l.said())
		}
		pod, config := l.pod("web")
		id, log := l.container(pod, config, image, "/bin/busybox", "sh", "-c", "echo started; exec /bin/busybox sleep 3600")
		if got := l.exec(id, "sha256sum", "/data/random"); got != digestOf(l.data, "/data/random") {
			t.Errorf("it reads %q", got)
		}
		l.waitFor("the container to print", func() bool {
			b, err := os.ReadFile(log)
			return err == nil && strings.Contains(string(b), "started")
		})
		l.exec(id, "dd", "if=/dev/zero", "of=/written", "bs=1048576", "count=3")
		l.waitFor("the writable layer to be seen", func() bool {
			stats, err := l.pods.ContainerStats(t.Context(), &cri.ContainerStatsRequest{ContainerId: id})
			if err != nil {
				t.Fatal(err)
			}
			w := stats.GetStats().GetWritableLayer()
			return w.GetUsedBytes().GetValue() >= 3<<20 && w.GetFsId().GetMountpoint() == filepath.Join(l.root, "snapshotter")
		})
		if all, err := l.pods.ListContainerStats(t.Context(), &cri.ListContainerStatsRequest{}); err != nil || len(all.Stats) != 1 {
			t.Errorf("statistics are %v, %v", all, err)
		}
		if _, err := l.pods.StopContainer(t.Context(), &cri.StopContainerRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
		if _, err := l.pods.RemoveContainer(t.Context(), &cri.RemoveContainerRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
		l.removePods()
		if _, err := l.images.RemoveImage(t.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: image}}); err != nil {
			t.Fatal(err)
		}
		l.waitFor("the image to be unmounted", func() bool { return len(l.mounted()) == 0 })
	})
}
