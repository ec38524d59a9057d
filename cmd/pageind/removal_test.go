package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/tartest"
	"github.com/pagein/pagein/node/control"
)

// bigImage pushes an image with a file that is larger than what is read ahead, converts it, and returns its name and that of the file, and what sha256sum prints of that.
func (r *runtimeLab) bigImage() (image, sum string) {
	r.Helper()
	data := make([]byte, 24<<20)
	for at := 0; at < len(data); at += len(r.data) {
		for i, b := range r.data {
			data[at+i] = b ^ byte(at>>20) // no two parts are equal
		}
	}
	image = r.push("big", r.layers[0], r.layer(tartest.Directory("data", 0o755), tartest.File("data/big", string(data))))
	r.pagein("convert", "--quiet", image)
	return image, digestOf(data, "/data/big")
}

// patientReader is a container that reads /data/big when it is told to.
type patientReader struct {
	*runtimeLab
	id, shared string
}

func (r *runtimeLab) patientReader(image, snapshotter, id string) *patientReader {
	r.Helper()
	p := &patientReader{r, id, filepath.Join(r.dir, "shared-"+id)}
	if err := os.Mkdir(p.shared, 0o755); err != nil {
		r.Fatal(err)
	}
	r.Ctr("run", "-d", "--null-io", "--snapshotter", snapshotter, "--mount", "type=bind,src="+p.shared+",dst=/shared,options=rbind:rw", image, id, "/bin/busybox", "sh", "-c", readWhenTold)
	return p
}

// readWhenTold reads for every file "go" once more.
const readWhenTold = `while :; do
until /bin/busybox rm /shared/go 2>/dev/null; do /bin/busybox sleep 0.05; done
/bin/busybox sha256sum /data/big > /shared/new 2>&1; /bin/busybox mv /shared/new /shared/sum
done`

// read has the container read, and returns what sha256sum prints.
func (p *patientReader) read() (printed string) {
	p.Helper()
	if err := os.WriteFile(filepath.Join(p.shared, "go"), nil, 0o644); err != nil {
		p.Fatal(err)
	}
	p.waitFor("the container to have read", func() bool {
		b, err := os.ReadFile(filepath.Join(p.shared, "sum"))
		printed = string(b)
		return err == nil && os.Remove(filepath.Join(p.shared, "sum")) == nil
	})
	return printed
}

// end removes the container.
func (p *patientReader) end() {
	p.Helper()
	p.Ctr("tasks", "rm", "-f", p.id)
	p.Ctr("containers", "rm", p.id)
}

// TestRemovalWhileContainersRunIsAsWithOverlayfs removes an image, and tries to remove its snapshot, while a container runs that has not read what it will read.
func TestRemovalWhileContainersRunIsAsWithOverlayfs(t *testing.T) {
	beside(t)
	r := newRuntimeLab(t)
	image, want := r.bigImage()
	before := r.idleRuntime(image)
	for _, snapshotter := range []string{"overlayfs", "pagein"} {
		r.Ctr("images", "pull", "--plain-http", "--snapshotter", snapshotter, image)
		reader := r.patientReader(image, snapshotter, "reader-"+snapshotter)
		r.Ctr("images", "rm", "--sync", image)
		r.Ctr("content", "prune", "references")
		left := r.Lines("snapshots", "--snapshotter", snapshotter, "ls")
		if len(left) != 3 { // the container's, and those of the layers
			t.Errorf("%s: snapshots are %v", snapshotter, left)
		}
		for _, name := range left {
			if name == reader.id {
				continue
			}
			if _, err := r.Try("snapshots", "--snapshotter", snapshotter, "rm", name); err == nil || !strings.Contains(err.Error(), "cannot remove snapshot with child") {
				t.Errorf("%s: removing %s, which the container needs: %v", snapshotter, name, err)
			}
		}
		if snapshotter == "pagein" {
			r.gc()
			if i := r.status().Images; len(i) != 1 || i[0].PresentBytes == i[0].TotalBytes {
				t.Fatalf("images are %+v: nothing is left to be read", i)
			}
		}
		if got := reader.read(); got != want {
			t.Errorf("%s: the container reads %q, want %q", snapshotter, got, want)
		}
		reader.end()
		r.waitFor("the snapshots to go", func() bool { return len(r.Lines("snapshots", "--snapshotter", snapshotter, "ls")) == 0 })
	}
	r.nothingLeft(before)
}

// TestAnImageWhoseArtifactVanishedIsToldAndCanBeRemoved has a registry that forgets all after the pull.
func TestAnImageWhoseArtifactVanishedIsToldAndCanBeRemoved(t *testing.T) {
	beside(t)
	r := newRuntimeLab(t)
	var gone atomic.Bool
	h := registry.New(registry.Logger(quiet()))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if gone.Load() {
			http.NotFound(w, req)
			return
		}
		h.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	r.registry = strings.TrimPrefix(server.URL, "http://")
	image, _ := r.bigImage()
	before := r.idleRuntime(image)
	r.pull(image)
	reader := r.patientReader(image, "pagein", "reader-of-nothing")
	gone.Store(true)
	if got := reader.read(); !strings.Contains(got, "Input/output error") {
		t.Errorf("the container reads %q", got)
	}
	i := r.status().Images
	if len(i) != 1 || !strings.Contains(i[0].Problem, "404") {
		t.Errorf("status shows %+v", i)
	}
	if got := r.run(image, "echo", "what is there can be used"); got != "what is there can be used\n" {
		t.Errorf("another container prints %q", got)
	}
	r.stop(unix.SIGKILL)
	r.serve()
	if got := r.run(image, "true"); got != "" {
		t.Errorf("after a restart a container prints %q", got)
	}
	reader.end()
	r.Ctr("images", "rm", "--sync", image)
	r.nothingLeft(before)
}

// TestALostImageIsRemoved has a daemon that cannot serve what is mounted, and one that cannot mount again what was: containerd can remove it all the same.
func TestALostImageIsRemoved(t *testing.T) {
	beside(t)
	for name, die := range map[string]func(*runtimeLab){
		"while mounted":  func(r *runtimeLab) { r.stop(unix.SIGKILL) },
		"after a reboot": func(r *runtimeLab) { r.pretendReboot(r.mounted()...) },
	} {
		t.Run(name, func(t *testing.T) {
			beside(t)
			r := newRuntimeLab(t)
			image, _ := r.bigImage()
			before := r.idleRuntime(image)
			r.pull(image)
			r.run(image, "true")
			die(r)
			for _, file := range r.files("maps/*") {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			}
			r.serve()
			r.waitFor("the image to be lost", func() bool { return len(r.status().Images) == 1 })
			if i := r.status().Images[0]; i.State != control.Lost {
				t.Fatalf("the image is %+v", i)
			}
			r.Ctr("images", "rm", "--sync", image)
			if left := r.mounted(); len(left) > 0 {
				t.Errorf("mounted are %v", left)
			}
			r.stop(unix.SIGTERM) // the next one need not hold what is lost
			r.serve()
			r.nothingLeft(before)
		})
	}
}

// TestContainersStartAfterAReboot has a container that was made, and one that ran, before the machine went down, and the registry away when it is up again.
func TestContainersStartAfterAReboot(t *testing.T) {
	beside(t)
	r := newRuntimeLab(t)
	server := newOutage(t)
	r.registry = server.host()
	image, want := r.bigImage()
	before := r.idleRuntime(image)
	r.pull(image)
	r.Ctr("containers", "create", "--snapshotter", "pagein", image, "made", "/bin/busybox", "echo", "made")
	ran := r.patientReader(image, "pagein", "ran")
	r.Ctr("tasks", "rm", "-f", "ran")
	targets := r.mounted()
	if len(targets) != 1 {
		t.Fatalf("mounted are %v", targets)
	}
	r.Stop()
	r.pretendReboot(targets...)

	server.out.Store(true)
	r.serve()
	r.Restart(r.Answers)
	var said string
	r.waitFor("containerd to be served", func() bool {
		_, said, _ = strings.Cut(r.said(), "the machine has been restarted")
		return strings.Contains(said, "serving snapshots")
	})
	if mounted, served := strings.Index(said, "mounted again"), strings.Index(said, "serving snapshots"); mounted < 0 || served < mounted {
		t.Errorf("containerd was served before all was mounted again:\n%s", said)
	}
	if got := r.Ctr("tasks", "start", "made"); got != "made\n" {
		t.Errorf("a container that was made before prints %q", got)
	}
	r.Ctr("tasks", "start", "-d", "--null-io", "ran")
	server.out.Store(false)
	if got := ran.read(); got != want {
		t.Errorf("it reads %q, want %q", got, want)
	}
	if again := r.mounted(); !slices.Equal(again, targets) {
		t.Errorf("mounted are %v, before %v", again, targets)
	}
	ran.end()
	_, _ = r.Try("tasks", "rm", "-f", "made") // ctr may have done it
	r.Ctr("containers", "rm", "made")
	r.Ctr("images", "rm", "--sync", image)
	r.nothingLeft(before)
}
