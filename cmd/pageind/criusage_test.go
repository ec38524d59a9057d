package main

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/pagein/pagein/internal/servertest"
)

// snapshotsTake is the sum of what containerd says that snapshots take, in bytes.
func (l *criLab) snapshotsTake() (sum int64) {
	l.Helper()
	for line := range strings.Lines(l.Ctr("snapshots", "--snapshotter", "pagein", "usage", "-b")) {
		if f := strings.Fields(line); f[0] != "KEY" {
			n, err := strconv.ParseInt(f[len(f)-2], 10, 64)
			if err != nil {
				l.Fatalf("%q: %v", line, err)
			}
			sum += n
		}
	}
	return sum
}

// kubeletIsTold is what the image service says that the images' disk has on it, in bytes.
func (l *criLab) kubeletIsTold(by cri.ImageServiceClient) int64 {
	l.Helper()
	info, err := by.ImageFsInfo(l.Context(), &cri.ImageFsInfoRequest{})
	if err != nil {
		l.Fatal(err)
	}
	if at := info.ImageFilesystems[0].FsId.Mountpoint; at != filepath.Join(l.root, "snapshotter") {
		l.Errorf("the images are at %q", at)
	}
	return int64(info.ImageFilesystems[0].UsedBytes.Value)
}

// TestBlobsThatImagesShareCountOnce has two images whose blobs are the same, and an ordinary one besides.
func TestBlobsThatImagesShareCountOnce(t *testing.T) {
	beside(t)
	withEachContainerd(t, func(t *testing.T, o servertest.ContainerdOptions) {
		l := newCRILab(prepareRuntimeLab(t), o)
		one, two := l.push("one", l.layers[:2]...), l.push("two", l.layers[2], l.layers[0], l.layers[1]) // what is smallest is no part of a blob
		for _, image := range []string{one, two} {
			l.pagein("convert", "--quiet", image)
			l.pullImage(l.forwarded, image, nil)
		}
		pod, config := l.pod("web")
		id, _ := l.container(pod, config, one, "/bin/busybox", "sleep", "3600")
		l.idle()
		ordinary := l.snapshotsTake() - l.lazilyTaken()
		l.exec(id, "sha256sum", "/data/random")
		l.idle()
		blob := l.status().Images[0].PresentBytes
		if again := l.status().Images[1].PresentBytes; blob < int64(len(l.data)) || again != blob {
			t.Fatalf("the images have %d and %d bytes: the test shows nothing", blob, again)
		}
		if take, want := l.snapshotsTake(), ordinary+l.lazilyTaken(); take != want || want >= 2*blob {
			t.Errorf("snapshots take %d bytes, want %d", take, want)
		}
		if take, told := l.snapshotsTake(), l.kubeletIsTold(l.forwarded); told != take {
			t.Errorf("kubelet is told of %d bytes, snapshots take %d", told, take)
		}

		// What both have is the other one's alone when one is gone.
		l.removePods()
		if _, err := l.images.RemoveImage(t.Context(), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: one}}); err != nil {
			t.Fatal(err)
		}
		l.waitFor("the image to be unmounted", func() bool { return len(l.mounted()) == 1 && len(l.status().Images) == 1 })
		if take, told := l.snapshotsTake(), l.kubeletIsTold(l.forwarded); take < blob || take >= 2*blob || told != take {
			t.Errorf("snapshots take %d bytes, kubelet is told of %d, and the blob has %d", take, told, blob)
		}
	})
}

// lazilyTaken is what the mounted images take by the daemon's own account, in bytes, where all of their blobs are the same.
func (l *criLab) lazilyTaken() (n int64) {
	l.Helper()
	for i, image := range l.status().Images {
		n += image.MetaBytes
		if i == 0 {
			n += image.PresentBytes
		}
	}
	return n
}

// TestOrdinaryImagesOfKubernetesAreUnpacked has one beside a lazy one.
func TestOrdinaryImagesOfKubernetesAreUnpacked(t *testing.T) {
	beside(t)
	withEachContainerd(t, func(t *testing.T, o servertest.ContainerdOptions) {
		l := newCRILab(prepareRuntimeLab(t), o)
		image := l.push("app", l.layers...)
		before := l.gate.of(l.layers...)
		l.pullImage(l.forwarded, image, nil)
		if n := l.gate.of(l.layers...) - before; n == 0 || len(l.mounted()) > 0 {
			t.Errorf("%d bytes of layers were fetched, mounted are %v", n, l.mounted())
		}
		pod, config := l.pod("web")
		id, _ := l.container(pod, config, image, "/bin/busybox", "sleep", "3600")
		if got := l.exec(id, "sha256sum", "/data/random"); got != digestOf(l.data, "/data/random") {
			t.Errorf("it reads %q", got)
		}
		var size int64
		for _, layer := range l.layers {
			size += layer.Size
		}
		status, err := l.forwarded.ImageStatus(t.Context(), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: image}})
		if err != nil || int64(status.GetImage().GetSize()) < size {
			t.Errorf("image: %v, %v; want at least %d bytes", status.GetImage(), err, size)
		}
		if take := l.kubeletIsTold(l.forwarded); take < int64(len(l.data)) || take != l.snapshotsTake() {
			t.Errorf("kubelet is told of %d bytes, snapshots take %d", take, l.snapshotsTake())
		}
	})
}
