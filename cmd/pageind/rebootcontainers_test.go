package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/internal/tartest"
)

// TestRebootWithContainerdBringsImagesAndContainersBack runs once in each of three boots of a machine that is shut down, and then has its power cut, each time while containers of lazy and of ordinary
// images run. The power is cut right after more of them were pulled and begun: what was acknowledged is there, though nobody waited.
func TestRebootWithContainerdBringsImagesAndContainersBack(t *testing.T) {
	n := newBootedNode(t)
	switch n.boot {
	case 1:
		n.pushAll()
		n.serve() // as the units have it: the snapshotter first
		n.startKept()
		n.begin("lazy")
		n.begin("plain")
		n.noteSnapshots()
	case 2:
		n.startKept() // it may come first as well
		n.serve()
		n.isBack("lazy", "plain")
		if now, before := n.snapshotsNow(), n.notedSnapshots(); !slices.Equal(now, before) {
			t.Errorf("after the shutdown there are the snapshots %q, before %q", now, before)
		}
		n.startAgain(2, "lazy", "plain")
		if got := n.status().Totals.BackendBytes; got > 0 {
			t.Errorf("%d bytes were fetched anew", got)
		}
		n.startRegistry()
		n.begin("late-plain")
		n.begin("late-lazy")
		n.Kill() // nothing is ended in order any more
	case 3:
		if r := n.check(n.root); r.Problems > 0 {
			t.Errorf("the power cut left %+v", r)
		}
		n.serve()
		n.startKept()
		n.isBack("lazy", "plain", "late-plain", "late-lazy")
		there := n.snapshotsNow()
		for _, name := range n.notedSnapshots() {
			if !slices.Contains(there, name) {
				t.Errorf("after the power cut snapshot %s is not there", name)
			}
		}
		n.startRegistry() // what had not been read before may be needed
		n.startAgain(3, "lazy", "plain")
		n.startAgain(2, "late-plain", "late-lazy")
		n.removeAll()
		n.nothingLeft(n.idleRuntime(n.ref("lazy")))
	}
}

// bootedNode is a node with containerd whose disk outlives the test: what it leaves running the end of the machine ends.
type bootedNode struct {
	*runtimeLab
	boot   int
	images map[string]bootedImage
}

// bootedImage is an image of which a container of the same name runs.
type bootedImage struct {
	lazy   bool
	layers []imageLayer
	sums   string // of its files, as sha256sum prints them
}

// bootedFiles are the files of every image.
var bootedFiles = []string{"/bin/busybox", "/common", "/own"}

func newBootedNode(t *testing.T) *bootedNode {
	t.Helper()
	disk, boot := require.Boot(t)
	l := &lab{T: t, dir: filepath.Join(disk, "containers")}
	l.root = filepath.Join(l.dir, "root")
	n := &bootedNode{runtimeLab: &runtimeLab{lab: l, registry: "127.0.0.1:5000"}, boot: boot, images: make(map[string]bootedImage)}
	err := os.MkdirAll(l.dir, 0o755)
	for _, name := range []string{"run", "sock", "snapshots.sock"} { // in reality they are in /run
		err = errors.Join(err, os.RemoveAll(filepath.Join(l.dir, name)))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("pageind said:\n%s", n.said())
		}
	})
	busybox, err := os.ReadFile(require.Tool(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	program := tartest.File("bin/busybox", string(busybox))
	program.Mode = 0o755
	programs, common := n.layer(tartest.Directory("bin", 0o755), program), n.randomLayer("common")
	sums := digestOf(busybox, bootedFiles[0]) + common.sum
	image := func(name string, lazy bool, layers func(own imageLayer) []imageLayer) {
		own := n.randomLayer("own " + name)
		n.images[name] = bootedImage{lazy: lazy, layers: layers(own.imageLayer), sums: sums + own.sum}
	}
	onShared := func(own imageLayer) []imageLayer { return []imageLayer{programs, common.imageLayer, own} }
	ofItsOwn := func(own imageLayer) []imageLayer { return []imageLayer{own, common.imageLayer, programs} }
	image("lazy", true, onShared)
	image("plain", false, onShared) // the snapshotter unpacks what the lazy one has too
	image("late-plain", false, ofItsOwn)
	image("late-lazy", true, onShared)
	return n
}

// summedLayer is a layer with one file, and what sha256sum prints of it.
type summedLayer struct {
	imageLayer
	sum string
}

// randomLayer makes a layer with a file of random bytes. The first word of what it is called is the file's name, and equal bytes are called the same.
func (n *bootedNode) randomLayer(called string) summedLayer {
	n.Helper()
	var seed [32]byte
	copy(seed[:], called)
	data := make([]byte, 2<<20)
	_, _ = rand.NewChaCha8(seed).Read(data)
	name, _, _ := strings.Cut(called, " ")
	return summedLayer{n.layer(tartest.File(name, string(data))), digestOf(data, "/"+name)}
}

func (n *bootedNode) ref(name string) string { return n.registry + "/" + name + ":1" }

func (n *bootedNode) startRegistry() {
	n.Helper()
	n.distribution = servertest.DistributionAt(n.T, n.registry, filepath.Join(n.dir, "registry"))
}

func (n *bootedNode) startKept() {
	n.Helper()
	n.startContainerd(servertest.ContainerdOptions{Kept: filepath.Join(n.dir, "containerd")})
}

// pushAll makes the images.
func (n *bootedNode) pushAll() {
	n.Helper()
	n.startRegistry()
	for name, image := range n.images {
		ref := n.push(name, image.layers...)
		if image.lazy {
			n.pagein("convert", "--quiet", ref)
		}
	}
}

// begin pulls an image, runs a container of it, which reads all of it, and leaves that running.
func (n *bootedNode) begin(name string) {
	n.Helper()
	n.pull(n.ref(name))
	layers := n.images[name].layers
	if there := n.fetched(layers[len(layers)-1]); n.images[name].lazy == (len(there) > 0) {
		n.Errorf("that containerd fetched the top layer of image %s is %t", name, len(there) > 0)
	}
	n.Ctr("run", "-d", "--null-io", "--snapshotter", "pagein", n.ref(name), name, "/bin/busybox", "sh", "-c",
		"echo started >> /starts; /bin/busybox sync /starts; exec /bin/busybox sleep 36000")
	n.verify(name, 1)
}

// verify checks what a container reads, and how often it says to have been started, which it had made durable each time.
func (n *bootedNode) verify(name string, starts int) {
	n.Helper()
	want := strings.Repeat("started\n", starts)
	n.waitFor(fmt.Sprintf("container %s to have been started %d times", name, starts), func() bool { return n.inside(name, "cat", "/starts") == want })
	if got := n.inside(name, append([]string{"sha256sum"}, bootedFiles...)...); got != n.images[name].sums {
		n.Errorf("boot %d: container %s reads\n%s, want\n%s", n.boot, name, got, n.images[name].sums)
	}
}

// inside runs a command of busybox in a running container and returns what it prints. See run for why it is run again if that is nothing.
func (n *bootedNode) inside(name string, args ...string) string {
	n.Helper()
	var said string
	for try := 0; try < 2 && said == ""; try++ {
		said = n.Ctr(append([]string{"tasks", "exec", "--exec-id", fmt.Sprintf("exec-%d", rand.Uint32()), name, "/bin/busybox"}, args...)...)
	}
	return said
}

// isBack checks that all is as it was before the machine went down, but for the processes.
func (n *bootedNode) isBack(names ...string) {
	n.Helper()
	var refs []string
	lazy := 0
	for _, name := range names {
		refs = append(refs, n.ref(name))
		if n.images[name].lazy {
			lazy++
		}
	}
	for what, want := range map[string][]string{"images": refs, "containers": names, "tasks": nil} {
		got := n.Lines(what, "ls", "-q")
		slices.Sort(got)
		if want = slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
			n.Errorf("boot %d: the %s are %q, want %q", n.boot, what, got, want)
		}
	}
	if got := n.mounted(); len(got) != lazy {
		n.Errorf("boot %d: of %d lazy images, mounted are %q", n.boot, lazy, got)
	}
	for _, i := range n.status().Images {
		if i.Transport != "cachefiles" {
			n.Errorf("boot %d: %s is mounted through %s", n.boot, i.Ref, i.Transport)
		}
	}
}

// startAgain starts containers anew, which makes it the given number of starts of each, and runs others of the same images.
func (n *bootedNode) startAgain(starts int, names ...string) {
	n.Helper()
	for _, name := range names {
		n.Ctr("tasks", "start", "-d", "--null-io", name)
		n.verify(name, starts)
		if got := n.run(n.ref(name), append([]string{"sha256sum"}, bootedFiles...)...); got != n.images[name].sums {
			n.Errorf("boot %d: a new container of image %s reads\n%s, want\n%s", n.boot, name, got, n.images[name].sums)
		}
	}
}

// removeAll removes containers and images.
func (n *bootedNode) removeAll() {
	n.Helper()
	for name := range n.images {
		n.Ctr("tasks", "rm", "-f", name)
		n.Ctr("containers", "rm", name)
		n.Ctr("images", "rm", "--sync", n.ref(name))
	}
}

// snapshotsNow are the names of the snapshots.
func (n *bootedNode) snapshotsNow() []string {
	n.Helper()
	return slices.Sorted(slices.Values(n.Lines("snapshots", "--snapshotter", "pagein", "ls")))
}

func (n *bootedNode) snapshotsFile() string { return filepath.Join(n.dir, "snapshots.json") }

// noteSnapshots leaves a note of the snapshots for later boots.
func (n *bootedNode) noteSnapshots() {
	n.Helper()
	b, err := json.Marshal(n.snapshotsNow())
	if err == nil {
		err = os.WriteFile(n.snapshotsFile(), b, 0o600)
	}
	if err != nil {
		n.Fatal(err)
	}
}

// notedSnapshots are those of the first boot.
func (n *bootedNode) notedSnapshots() (names []string) {
	n.Helper()
	b, err := os.ReadFile(n.snapshotsFile())
	if err == nil {
		err = json.Unmarshal(b, &names)
	}
	if err != nil {
		n.Fatal(err)
	}
	return names
}
