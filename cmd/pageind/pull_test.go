package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/servertest"
)

// TestPullNeedsNoHelpOfTheClient has a containerd that does not tell its snapshotter which image a layer is of, as ctr does not before 2.1. What needs the layers is refused until they
// are fetched.
func TestPullNeedsNoHelpOfTheClient(t *testing.T) {
	beside(t)
	for _, s := range series {
		t.Run(s.name, func(t *testing.T) {
			beside(t)
			r := startRuntimeLab(t, servertest.ContainerdOptions{Old: s.old, Untold: true})
			image := r.push("app", r.layers...)
			r.pagein("convert", "--quiet", image)
			if said := r.pagein("pull", "--containerd", r.Socket(), image); !strings.Contains(said, "3 layers, 3 of them not fetched") {
				t.Errorf("it says %s", said)
			}
			if there := r.fetched(r.layers...); len(there) > 0 {
				t.Errorf("layers %v were fetched", there)
			}
			if got, want := r.run(image, "sha256sum", "/data/random"), digestOf(r.data, "/data/random"); got != want {
				t.Errorf("it reads %q, want %q", got, want)
			}
			exported := filepath.Join(r.dir, "export.tar")
			if _, err := r.Try("images", "export", exported, image); err == nil || !strings.Contains(err.Error(), "not found") {
				t.Errorf("an image without layers is exported: %v", err)
			}
			if _, err := r.Try("images", "convert", "--uncompress", image, image+"-plain"); err == nil || !strings.Contains(err.Error(), "not found") {
				t.Errorf("an image without layers is converted: %v", err)
			}
			other := servertest.Distribution(t, nil).Addr + "/copy:1"
			r.Ctr("images", "tag", image, other)
			if _, err := r.Try("images", "push", "--plain-http", other); err == nil || !strings.Contains(err.Error(), "not found") {
				t.Errorf("an image without layers is pushed to another registry: %v", err)
			}
			same := strings.Replace(image, "/app:", "/copy:", 1)
			r.Ctr("images", "tag", image, same)
			r.Ctr("images", "push", "--plain-http", same)

			if said := r.pagein("pull", "--containerd", r.Socket(), "--layers", "--json", image); strings.Contains(said, `"content": false`) || !strings.Contains(said, `"mounted": true`) {
				t.Errorf("it says %s", said)
			}
			if there := r.fetched(r.layers...); !slices.Equal(there, []int{1, 2, 3}) {
				t.Errorf("only layers %v were fetched", there)
			}
			r.Ctr("images", "export", exported, image)
			r.Ctr("images", "push", "--plain-http", other)
			if mounts := r.mounted(); len(mounts) != 1 {
				t.Errorf("mounted are %v", mounts)
			}
			r.Ctr("images", "rm", image)
			r.Ctr("images", "rm", same)
			r.Ctr("images", "rm", "--sync", other)
			if there := r.fetched(r.layers...); len(there) > 0 || len(r.mounted()) > 0 {
				t.Errorf("layers %v outlive the image, mounted are %v", there, r.mounted())
			}
			r.Ctr("images", "import", "--snapshotter", "overlayfs", exported)
		})
	}
}
