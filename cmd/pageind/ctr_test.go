package main

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/servertest"
)

// TestTheAnnotationServesClientsThatSayNothing pulls as ctr of containerd 1.7 does, and that of containerd 2 with --local: neither tells of which image a layer is. Then containerd and
// the daemon are restarted.
func TestTheAnnotationServesClientsThatSayNothing(t *testing.T) {
	withEachContainerd(t, func(t *testing.T, o servertest.ContainerdOptions) {
		o.Untold = true
		r := startRuntimeLab(t, o)
		image := r.push("app", r.layers...)
		r.pagein("convert", "--quiet", "--tag-suffix=-pagein", image)
		image += "-pagein"
		pull := []string{"images", "pull", "--plain-http", "--snapshotter", "pagein"}
		if !o.Old {
			pull = append(pull, "--local")
		}
		r.Ctr(append(pull, image)...)
		if there := r.fetched(r.layers...); len(there) > 0 || len(r.mounted()) != 1 {
			t.Errorf("layers %v were fetched: %s", there, r.said())
		}
		r.run(image, "true")
		r.Restart(r.Answers)
		r.stop(unix.SIGKILL)
		r.serve()
		if got := r.run(image, "sha256sum", "/data/random"); got != digestOf(r.data, "/data/random") {
			t.Errorf("it reads %q", got)
		}
		r.Ctr("images", "rm", "--sync", image)
		if len(r.mounted()) > 0 {
			t.Errorf("mounted are %v", r.mounted())
		}
	})
}
