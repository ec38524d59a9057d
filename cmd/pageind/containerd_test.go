package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/internal/erofstest"
	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/internal/tartest"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/registry/registrytest"
)

// runtimeLab is a lab with containerd and a registry.
type runtimeLab struct {
	*lab
	*servertest.Containerd
	distribution *servertest.Process
	registry     string // its address, or that of somebody before it
	data         []byte // of /data/random in the images
	layers       []imageLayer
}

func newRuntimeLab(t *testing.T) *runtimeLab {
	t.Helper()
	return startRuntimeLab(t, servertest.ContainerdOptions{})
}

// startRuntimeLab is for a containerd of one's own choice.
func startRuntimeLab(t *testing.T, o servertest.ContainerdOptions) *runtimeLab {
	t.Helper()
	r := prepareRuntimeLab(t)
	r.serve()
	r.startContainerd(o)
	return r
}

// prepareRuntimeLab has a registry, and nothing that runs containers yet.
func prepareRuntimeLab(t *testing.T) *runtimeLab {
	t.Helper()
	if os.Getenv(require.GuestEnv) != "" {
		t.Skip("few tests run containers in guests, where all takes long")
	}
	return prepareRuntimeLabAnywhere(t)
}

// newRuntimeLabAnywhere is newRuntimeLab in guests too.
func newRuntimeLabAnywhere(t *testing.T) *runtimeLab {
	t.Helper()
	r := prepareRuntimeLabAnywhere(t)
	r.serve()
	r.startContainerd(servertest.ContainerdOptions{})
	return r
}

// prepareRuntimeLabAnywhere is prepareRuntimeLab in guests too.
func prepareRuntimeLabAnywhere(t *testing.T) *runtimeLab {
	t.Helper()
	r := &runtimeLab{lab: newLab(t), data: make([]byte, 3<<20)}
	_, _ = rand.NewChaCha8([32]byte{7}).Read(r.data)
	busybox, err := os.ReadFile(require.Tool(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	program := tartest.File("bin/busybox", string(busybox))
	program.Mode = 0o755
	setuid := tartest.File("setuid", "x")
	setuid.Mode, setuid.Uid = 0o4755, 1000
	r.layers = []imageLayer{
		r.layer(tartest.Directory("bin", 0o755), program, setuid, tartest.Char("null", 1, 3), tartest.File("gone", "x")),
		r.layer(tartest.Directory("data", 0o755), tartest.File("data/random", string(r.data)), tartest.File(".wh.gone", "")),
		r.layer(tartest.File("three", "3\n")),
	}
	r.distribution = servertest.Distribution(t, nil)
	r.registry = r.distribution.Addr
	return r
}

// startContainerd starts containerd with the lab's snapshotter.
func (r *runtimeLab) startContainerd(o servertest.ContainerdOptions) {
	r.Helper()
	o.Snapshotter, o.Root = strings.TrimPrefix(r.snapshots(), "unix://"), filepath.Join(r.root, "snapshotter")
	r.Containerd = servertest.StartContainerd(r.T, o)
	r.Cleanup(func() {
		if r.daemon == nil {
			r.serve() // containerd removes what it has
		}
	})
}

func (r *runtimeLab) snapshots() string {
	return "unix://" + filepath.Join(r.dir, "snapshots.sock")
}

// serve starts a daemon that serves containerd, and waits until that has found it, if it runs.
func (r *runtimeLab) serve(args ...string) {
	r.Helper()
	r.start(append([]string{"--snapshotter", r.snapshots()}, args...)...)
	if r.Containerd == nil || r.Answers("") != nil {
		return
	}
	r.isFound()
}

// isFound waits until containerd has found the daemon: it pauses after it found nobody. A list of no snapshots it makes without asking anybody, so it is told to make one.
func (r *runtimeLab) isFound() {
	r.Helper()
	key := fmt.Sprintf("found-%d", rand.Uint32())
	r.waitFor("containerd to find the daemon", func() bool {
		_, err := r.Try("snapshots", "--snapshotter", "pagein", "prepare", key)
		return err == nil || strings.Contains(err.Error(), "already exists")
	})
	r.Ctr("snapshots", "--snapshotter", "pagein", "rm", key)
}

// imageLayer is a layer as it is in a registry.
type imageLayer struct {
	ocispec.Descriptor
	packed []byte
	diffID digest.Digest
}

func (r *runtimeLab) layer(members ...tartest.Member) imageLayer {
	r.Helper()
	tar := tartest.Archive(r.lab, members...)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(tar); err != nil {
		r.Fatal(err)
	}
	if err := z.Close(); err != nil {
		r.Fatal(err)
	}
	return imageLayer{content.NewDescriptorFromBytes(ocispec.MediaTypeImageLayerGzip, packed.Bytes()), packed.Bytes(), digest.FromBytes(tar)}
}

// push makes an image of layers and returns its name.
func (r *runtimeLab) push(name string, layers ...imageLayer) string {
	r.Helper()
	return r.pushTo(name, func(repo *registry.Repository) (ocispec.Descriptor, []byte) {
		return r.pushFor(repo, runtime.GOARCH, layers)
	})
}

// pushIndex makes an index with an image for each architecture.
func (r *runtimeLab) pushIndex(name string, layers map[string][]imageLayer) string {
	r.Helper()
	return r.pushTo(name, func(repo *registry.Repository) (ocispec.Descriptor, []byte) {
		index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
		for architecture, layers := range layers {
			manifest, b := r.pushFor(repo, architecture, layers)
			r.store(repo, manifest, b)
			manifest.Platform = &ocispec.Platform{OS: "linux", Architecture: architecture}
			index.Manifests = append(index.Manifests, manifest)
		}
		return inJSON(r.lab, ocispec.MediaTypeImageIndex, index)
	})
}

// pushTo gives what is made in a repository a tag.
func (r *runtimeLab) pushTo(name string, content func(*registry.Repository) (ocispec.Descriptor, []byte)) string {
	r.Helper()
	ref := oci.Ref{Kind: oci.Registry, Host: r.registry, Repository: name, Tag: "1"}
	client := registrytest.Client(r.T)
	repo, err := client.Repository(ref)
	if err != nil {
		r.Fatal(err)
	}
	desc, b := content(repo)
	if err := repo.PushReference(r.Context(), desc, bytes.NewReader(b), ref.Tag); err != nil {
		r.Fatal(err)
	}
	return ref.String()
}

// pushFor makes an image for machines of an architecture, but for its manifest, which it returns.
func (r *runtimeLab) pushFor(repo *registry.Repository, architecture string, layers []imageLayer) (ocispec.Descriptor, []byte) {
	r.Helper()
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	config := ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: architecture}, RootFS: ocispec.RootFS{Type: "layers"},
		Config: ocispec.ImageConfig{Cmd: []string{"/bin/busybox", "sleep", "3600"}},
	}
	for _, l := range layers {
		r.store(repo, l.Descriptor, l.packed)
		manifest.Layers = append(manifest.Layers, l.Descriptor)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
	}
	var b []byte
	manifest.Config, b = inJSON(r.lab, ocispec.MediaTypeImageConfig, config)
	r.store(repo, manifest.Config, b)
	return inJSON(r.lab, ocispec.MediaTypeImageManifest, manifest)
}

func (r *runtimeLab) store(repo *registry.Repository, desc ocispec.Descriptor, b []byte) {
	r.Helper()
	if err := repo.Push(r.Context(), desc, bytes.NewReader(b)); err != nil {
		r.Fatal(err)
	}
}

func inJSON(t testing.TB, mediaType string, v any) (ocispec.Descriptor, []byte) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return content.NewDescriptorFromBytes(mediaType, b), b
}

func (r *runtimeLab) pull(image string) {
	r.Helper()
	r.Ctr("images", "pull", "--plain-http", "--snapshotter", "pagein", image)
}

// run runs a command of busybox in a new container and returns what it prints. It is run again if that is nothing: on a busy machine ctr gives up a pipe that it has not opened before the
// container ends, and succeeds.
func (r *runtimeLab) run(image string, args ...string) string {
	r.Helper()
	if said := r.Ctr(r.runArgs(image, args...)...); said != "" {
		return said
	}
	return r.Ctr(r.runArgs(image, args...)...)
}

// runArgs are those of ctr that run does it with.
func (r *runtimeLab) runArgs(image string, args ...string) []string {
	id := fmt.Sprintf("run-%d", rand.Uint32())
	return append([]string{"run", "--rm", "--snapshotter", "pagein", image, id, "/bin/busybox"}, args...)
}

// digestOf is what sha256sum prints of a file.
func digestOf(data []byte, path string) string {
	return fmt.Sprintf("%x  %s\n", sha256.Sum256(data), path)
}

// fetched reports which of the layers are in containerd's content store.
func (r *runtimeLab) fetched(layers ...imageLayer) (there []int) {
	r.Helper()
	stored := r.Lines("content", "ls")
	for i, l := range layers {
		if slices.Contains(stored, l.Digest.String()) {
			there = append(there, i+1)
		}
	}
	return there
}

// mounted are the lazily mounted directories of snapshots.
func (r *runtimeLab) mounted() (targets []string) {
	r.Helper()
	all, err := kmount.List()
	if err != nil {
		r.Fatal(err)
	}
	for _, m := range all {
		if strings.HasPrefix(m.Target, filepath.Join(r.root, "snapshotter")+"/") {
			targets = append(targets, m.Target)
		}
	}
	return targets
}

func TestContainersStartFromImagesThatAreNotFetched(t *testing.T) {
	beside(t)
	r := newRuntimeLab(t)
	image := r.push("app", r.layers...)
	r.pagein("convert", "--quiet", image)
	r.pull(image)
	if there := r.fetched(r.layers...); len(there) > 0 {
		t.Errorf("layers %v were fetched", there)
	}
	for _, command := range [][]string{{"status"}, {"top", "--once"}} {
		if said := r.pagein(command...); !strings.Contains(said, "  "+image) || strings.Contains(said, "@sha256:") {
			t.Errorf("pagein %s does not name the image as %s:\n%s", command, image, said)
		}
	}
	if s := r.status().Images; len(s) != 1 || !slices.Equal(s[0].Names, []string{image}) || !strings.Contains(s[0].Ref, "@sha256:") {
		t.Errorf("served is %+v", s)
	}
	r.run(image, "true")
	if got, want := r.run(image, "sha256sum", "/data/random"), digestOf(r.data, "/data/random"); got != want {
		t.Errorf("it reads %q, want %q", got, want)
	}
	if got := r.run(image, "sh", "-c", "/bin/busybox cat /three; [ -e /gone ] || echo gone is gone; echo mine > /data/random; /bin/busybox cat /data/random"); got != "3\ngone is gone\nmine\n" {
		t.Errorf("it prints %q", got)
	}
	if got := r.run(image, "sha256sum", "/data/random"); got != digestOf(r.data, "/data/random") {
		t.Errorf("what one container wrote another one reads: %q", got)
	}
	if targets := r.mounted(); len(targets) != 1 {
		t.Errorf("mounted are %v", targets)
	}
	r.Ctr("images", "rm", "--sync", image)
	if left := r.Lines("snapshots", "--snapshotter", "pagein", "ls"); len(left) > 0 {
		t.Errorf("snapshots are left: %v", left)
	}
	if left, err := os.ReadDir(filepath.Join(r.root, "snapshotter", "snapshots")); err != nil || len(left) > 0 || len(r.mounted()) > 0 {
		t.Errorf("%v is left, %v is mounted, %v", left, r.mounted(), err)
	}
}

// TestOrdinaryImagesRunBesideLazyOnesWhoseLayersTheyShare has one on all layers of a lazy one, and one on some.
func TestOrdinaryImagesRunBesideLazyOnesWhoseLayersTheyShare(t *testing.T) {
	beside(t)
	r := newRuntimeLabAnywhere(t)
	lazy, four := r.push("app", r.layers...), r.layer(tartest.File("four", "4\n"))
	r.pagein("convert", "--quiet", lazy)
	r.pull(lazy)
	whole, part := r.push("whole", append(slices.Clone(r.layers), four)...), r.push("part", append(slices.Clone(r.layers[:2]), four)...)
	for image, want := range map[string]string{
		whole: "bin data dev four null proc run setuid sys three\n",
		part:  "bin data dev four null proc run setuid sys\n",
		lazy:  "bin data dev null proc run setuid sys three\n",
	} {
		r.pull(image)
		if got := r.run(image, "sh", "-c", "cd / && echo *"); got != want {
			t.Errorf("%s has %q, want %q", image, got, want)
		}
		if got := r.run(image, "stat", "-c", "%A %u %t:%T", "/setuid", "/null"); got != "-rwsr-xr-x 1000 0:0\ncrw-rw-rw- 0 1:3\n" {
			t.Errorf("%s has %q", image, got)
		}
		if got := r.run(image, "sha256sum", "/data/random"); got != digestOf(r.data, "/data/random") {
			t.Errorf("%s reads %q", image, got)
		}
	}
	if there := r.fetched(append(slices.Clone(r.layers), four)...); !slices.Equal(there, []int{4}) {
		t.Errorf("containerd fetched layers %v", there)
	}
}

// TestContainersOutliveTheDaemonAndContainerd kills both while a container reads.
func TestContainersOutliveTheDaemonAndContainerd(t *testing.T) {
	beside(t)
	r := newRuntimeLabAnywhere(t)
	image := r.push("app", r.layers...)
	r.pagein("convert", "--quiet", image)
	r.pull(image)
	shared := filepath.Join(r.dir, "shared")
	if err := os.Mkdir(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	r.Ctr("run", "-d", "--snapshotter", "pagein", "--mount", "type=bind,src="+shared+",dst=/shared,options=rbind:rw", image, "reader",
		"/bin/busybox", "sh", "-c", "while :; do /bin/busybox sha256sum /data/random > /shared/new; /bin/busybox mv /shared/new /shared/sum; done")
	reads := func() {
		t.Helper()
		if err := os.Remove(filepath.Join(shared, "sum")); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		r.waitFor("the container to read", func() bool {
			got, err := os.ReadFile(filepath.Join(shared, "sum"))
			if err == nil && string(got) != digestOf(r.data, "/data/random") {
				t.Fatalf("it reads %q", got)
			}
			return err == nil
		})
	}
	reads()
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGKILL} {
		r.stop(sig)
		erofstest.DropCaches(t)
		r.serve()
		reads()
	}
	r.Restart(r.Answers)
	reads()
	r.stop(unix.SIGKILL) // and both at once
	r.Kill()
	r.Restart(r.Answers)
	r.serve()
	reads()
	if got := r.run(image, "sha256sum", "/data/random"); got != digestOf(r.data, "/data/random") {
		t.Errorf("a new container reads %q", got)
	}
}

// TestAnImageThatNamesItsArtifactNeedsNoSwitch of containerd, but that its repository is named to us: all that is known of it are its own words.
func TestAnImageThatNamesItsArtifactNeedsNoSwitch(t *testing.T) {
	beside(t)
	r := startRuntimeLab(t, servertest.ContainerdOptions{Untold: true})
	image := r.push("app", r.layers...)
	r.pagein("convert", "--quiet", "--tag-suffix=-pagein", image)
	image += "-pagein"
	r.pull(image)
	if said := r.said(); strings.Count(said, "the image itself says") != 1 || len(r.mounted()) > 0 {
		t.Errorf("mounted are %v, said was %s", r.mounted(), said)
	}
	r.Ctr("images", "rm", "--sync", image)
	r.stop(unix.SIGTERM)
	r.serve(r.configure("[trust]\nrepositories = [%q]\n", r.registry)...)
	r.pull(image)
	if there := r.fetched(r.layers...); len(there) > 0 {
		t.Errorf("layers %v were fetched", there)
	}
	if got := r.run(image, "sha256sum", "/data/random"); got != digestOf(r.data, "/data/random") {
		t.Errorf("it reads %q", got)
	}
	r.Ctr("images", "pull", "--plain-http", "--snapshotter", "overlayfs", image) // as where there is no pageind
	if got := r.Ctr("run", "--rm", "--snapshotter", "overlayfs", image, "ordinary", "/bin/busybox", "sha256sum", "/data/random"); got != digestOf(r.data, "/data/random") {
		t.Errorf("unpacked, it reads %q", got)
	}
}

// TestAnImageWithoutAnArtifactIsUnpackedAndTheReasonSaidOnce has a tag that was pushed anew after its image was converted.
func TestAnImageWithoutAnArtifactIsUnpackedAndTheReasonSaidOnce(t *testing.T) {
	beside(t)
	r := newRuntimeLab(t)
	r.pagein("convert", "--quiet", r.push("app", r.layers[:2]...))
	image := r.push("app", r.layers...)
	r.pull(image)
	if there := r.fetched(r.layers...); len(there) != len(r.layers) {
		t.Errorf("only layers %v were fetched", there)
	}
	if got := r.run(image, "sha256sum", "/data/random"); got != digestOf(r.data, "/data/random") {
		t.Errorf("it reads %q", got)
	}
	if n := strings.Count(r.said(), "no artifact is attached"); n != 1 || len(r.mounted()) > 0 {
		t.Errorf("said %d times, mounted %v", n, r.mounted())
	}
	if said := r.pagein("status"); !strings.Contains(said, image+": unpacked as any other image on ") {
		t.Errorf("the status is %s", said)
	}
	pull := func(want string) {
		t.Helper()
		if said := r.pagein("pull", "--containerd", r.Socket(), image); !strings.Contains(said, want) {
			t.Errorf("it says %s, want %s", said, want)
		}
	}
	r.Ctr("images", "rm", "--sync", image)
	pull("It was unpacked as any other image: no artifact is attached")
	r.pagein("convert", "--quiet", image)
	r.stop(unix.SIGTERM)
	r.serve() // the next one does not know why
	pull("It was unpacked earlier, as any other image: remove it (ctr images rm --sync " + image + ") and pull it again.")
	r.Ctr("images", "rm", "--sync", image)
	pull("3 layers, 3 of them not fetched")
	if said := r.pagein("status"); strings.Contains(said, image+": unpacked") {
		t.Errorf("the status of what is lazy is %s", said)
	}

	// Whatever is attached then, the next pull uses at once.
	again := strings.TrimSpace(r.pagein("convert", "--quiet", "--json", "--level=best", image))
	r.Ctr("images", "rm", "--sync", image)
	pull("3 layers, 3 of them not fetched")
	if all := r.status().Images; len(all) != 1 || !strings.Contains(again, all[0].Ref) {
		t.Errorf("after it was converted once more as %s, %+v is mounted", again, all)
	}
}
