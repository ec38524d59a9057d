package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/servertest"
)

// TestNerdctlWorksWithImagesThatAreNotFetched has nerdctl run, commit, save and push an image of which it has no layers: what it needs of them it fetches.
func TestNerdctlWorksWithImagesThatAreNotFetched(t *testing.T) {
	beside(t)
	for _, s := range series {
		t.Run(s.name, func(t *testing.T) {
			r := prepareRuntimeLab(t)
			program := require.Tool(t, "nerdctl")
			r.serve(r.configure("[trust]\nrepositories = [%q]\n", r.registry)...)
			r.startContainerd(servertest.ContainerdOptions{Old: s.old})
			nerdctl := func(args ...string) string {
				t.Helper()
				out, err := servertest.Output(exec.Command(program, append([]string{
					"--address", r.Socket(), "--snapshotter", "pagein", "--insecure-registry", "--data-root", filepath.Join(r.Dir, "nerdctl"),
					"--cgroup-manager", "cgroupfs", "--cni-netconfpath", filepath.Join(r.Dir, "cni"), "--cni-path", filepath.Join(r.Dir, "cni"),
				}, args...)...))
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			run := func(image string, command ...string) string {
				t.Helper()
				return nerdctl(append([]string{"run", "--rm", "--net", "none", image}, command...)...)
			}
			image := r.push("app", r.layers...)
			r.pagein("convert", "--quiet", "--tag-suffix=-pagein", image)

			nerdctl("pull", "--quiet", image+"-pagein") // names its artifact; of others nerdctl does not say which image they are
			if there := r.fetched(r.layers...); len(there) > 0 {
				t.Errorf("nerdctl fetched layers %v", there)
			}
			nerdctl("save", "--output", filepath.Join(r.dir, "saved.tar"), image+"-pagein")
			if there := r.fetched(r.layers...); len(there) != len(r.layers) {
				t.Errorf("nerdctl saved layers %v", there)
			}
			nerdctl("rmi", image+"-pagein")

			r.pagein("pull", "--containerd", r.Socket(), image)
			if got := run(image, "/bin/busybox", "sha256sum", "/data/random"); got != digestOf(r.data, "/data/random") {
				t.Errorf("it reads %q", got)
			}
			nerdctl("run", "--net", "host", "--name", "work", image, "/bin/busybox", "sh", "-c", "echo mine > /new; /bin/busybox rm /three")
			if there := r.fetched(r.layers...); len(there) > 0 {
				t.Errorf("nerdctl fetched layers %v", there)
			}
			committed := strings.Replace(image, "/app:", "/committed:", 1)
			nerdctl("commit", "work", committed)
			nerdctl("rm", "work")
			if got := run(committed, "/bin/busybox", "sh", "-c", "/bin/busybox cat /new; [ -e /three ] || echo three is gone"); got != "mine\nthree is gone\n" {
				t.Errorf("what was committed prints %q", got)
			}
			other := fmt.Sprintf("%s/copy:1", servertest.Distribution(t, nil).Addr)
			nerdctl("tag", committed, other)
			nerdctl("push", "--quiet", other)
			nerdctl("rmi", image, committed, other)
			r.Ctr("images", "pull", "--plain-http", "--snapshotter", "overlayfs", other)
			if got := r.Ctr("run", "--rm", "--snapshotter", "overlayfs", other, "after-import", "/bin/busybox", "sha256sum", "/data/random"); got != digestOf(r.data, "/data/random") {
				t.Errorf("what was pushed reads %q", got)
			}
		})
	}
}
