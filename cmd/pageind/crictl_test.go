package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/servertest"
)

// crictlConfig has images pulled through the daemon, as kubelet has. The two seconds that an answer may take otherwise are few on a busy machine.
const crictlConfig = `runtime-endpoint: unix://%s
image-endpoint: %s
timeout: 120
`

// crictlPod is on the host's network (2), and has process numbers of its own (1). Of a pod without a control group nothing is measured: it gets the one that it would have without it.
const crictlPod = `metadata: {name: web, uid: web, namespace: default}
log_directory: %q
linux: {cgroup_parent: /k8s.io, security_context: {namespace_options: {network: 2, pid: 1}}}
`

const crictlContainer = `metadata: {name: main}
image: {image: %q}
command: [/bin/busybox, sh, -c, echo started; exec /bin/busybox sleep 3600]
log_path: main.log
`

// crictl is the command of Kubernetes in a lab.
type crictl struct {
	*criLab
	program string
	config  string
}

func newCrictl(l *criLab) *crictl {
	l.Helper()
	c := &crictl{criLab: l, program: require.Tool(l.T, "crictl")}
	c.config = c.file("crictl.yaml", crictlConfig, l.Socket(), l.snapshots())
	return c
}

// file makes a file in the lab.
func (c *crictl) file(name, format string, args ...any) (path string) {
	c.Helper()
	path = filepath.Join(c.dir, name)
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		c.Fatal(err)
	}
	return path
}

// does runs a command that must succeed, and returns what it prints.
func (c *crictl) does(args ...string) string {
	c.Helper()
	out, err := c.tries(args...)
	if err != nil {
		c.Fatal(err)
	}
	return out
}

// tries runs a command and returns what it prints, or an error with what it says when it fails.
func (c *crictl) tries(args ...string) (string, error) {
	return servertest.Output(exec.Command(c.program, append([]string{"--config", c.config}, args...)...))
}

// prints checks the words that a command prints.
func (c *crictl) prints(words []string, args ...string) {
	c.Helper()
	if got := strings.Fields(c.does(args...)); !slices.Equal(got, words) {
		c.Errorf("crictl %s prints %q, want %q", strings.Join(args, " "), got, words)
	}
}

// tells reads into a message what a command prints as JSON.
func (c *crictl) tells(m proto.Message, command string, args ...string) {
	c.Helper()
	out := c.does(append([]string{command, "--output", "json"}, args...)...)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(out), m); err != nil {
		c.Fatalf("crictl %s: %v: %s", command, err, out)
	}
}

// guard puts a registry in front of the lab's content that wants a password, and returns what an image of the lab is called there.
func (c *crictl) guard(image string) string {
	c.Helper()
	name := strings.TrimPrefix(image, c.registry)
	c.gate = newGate(c.T, servertest.Guarded(c.T, c.distribution, servertest.NewPasswords(c.T, firstPassword)).Addr)
	return c.gate.addr + name
}

// wrote checks the size of a container's writable layer, as a command tells it, and where that is.
func (c *crictl) wrote(bytes uint64, layer func() *cri.FilesystemUsage) {
	c.Helper()
	c.waitFor("the writable layer to be seen", func() bool {
		w := layer()
		return w.GetUsedBytes().GetValue() >= bytes && w.GetUsedBytes().GetValue() < 2*bytes && w.GetFsId().GetMountpoint() == filepath.Join(c.root, "snapshotter")
	})
}

// TestKubernetesRunsPodsOfImagesThatAreNotFetched goes through the life of a pod with crictl, from a pull for which the registry wants a password to the removal of the images.
func TestKubernetesRunsPodsOfImagesThatAreNotFetched(t *testing.T) {
	beside(t)
	withEachContainerd(t, func(t *testing.T, o servertest.ContainerdOptions) {
		c := newCrictl(newCRILab(prepareRuntimeLabAnywhere(t), o))
		public := c.push("app", c.layers...)
		c.pagein("convert", "--quiet", public)
		image := c.guard(public)
		if _, err := c.tries("pull", "--creds", "me:wrong", image); err == nil || !strings.Contains(err.Error(), "401 Unauthorized") {
			t.Fatalf("a wrong password: %v", err)
		}
		c.does("pull", "--creds", "me:"+firstPassword, image)
		if n := c.gate.of(c.layers...); n > 0 || len(c.mounted()) != 1 {
			t.Fatalf("%d bytes of layers were fetched, mounted are %v: %s", n, c.mounted(), c.said())
		}
		c.runs(image)
		if n := c.gate.of(c.layers[1:]...); n > 0 { // the lowest one is that of sandboxes, which are ordinary
			t.Errorf("%d bytes of layers were fetched: %s", n, c.said())
		}
		c.does("rmi", "--all")
		c.prints(nil, "images", "--quiet")
		c.waitFor("snapshots and mounts to go", func() bool {
			return len(c.Lines("snapshots", "--snapshotter", "pagein", "ls")) == 0 && len(c.mountsBelow(c.dir, c.Dir)) == 0
		})
	})
}

// runs has a pod with a container of the image, looks at both, and removes them.
func (c *crictl) runs(image string) {
	podFile := c.file("pod.yaml", crictlPod, filepath.Join(c.dir, "logs"))
	pod := strings.TrimSpace(c.does("runp", podFile))
	id := strings.TrimSpace(c.does("create", pod, c.file("container.yaml", crictlContainer, image), podFile))
	c.prints([]string{id}, "start", id)
	c.prints([]string{pod}, "pods", "--quiet", "--state", "ready")
	c.prints([]string{id}, "ps", "--quiet", "--image", image)
	sum := []string{"/bin/busybox", "sha256sum", "/data/random"}
	for _, way := range [][]string{{"exec", "--sync"}, {"exec"}} {
		c.prints(strings.Fields(digestOf(c.data, sum[2])), append(append(way, id), sum...)...)
	}
	c.waitFor("the container's words to be logged", func() bool { return c.does("logs", id) == "started\n" })
	c.isListed(image)
	c.isMeasured(pod, id)
	c.prints([]string{id}, "stop", id)
	c.prints(nil, "ps", "--quiet")
	c.prints([]string{id}, "rm", id)
	c.prints(nil, "ps", "--all", "--quiet")
	c.prints([]string{"Stopped", "sandbox", pod}, "stopp", pod)
	c.prints([]string{"Removed", "sandbox", pod}, "rmp", pod)
	c.prints(nil, "pods", "--quiet")
}

// isListed looks at an image.
func (c *crictl) isListed(image string) {
	var packed int64
	for _, layer := range c.layers {
		packed += layer.Size
	}
	var all cri.ListImagesResponse
	c.tells(&all, "images")
	i := slices.IndexFunc(all.Images, func(i *cri.Image) bool { return slices.Equal(i.RepoTags, []string{image}) })
	if i < 0 || int64(all.Images[i].Size) < packed {
		c.Fatalf("images are %v, want %s with at least %d bytes", all.Images, image, packed)
	}
	c.prints([]string{all.Images[i].Id, fmt.Sprint(all.Images[i].Size)}, "inspecti", "--output", "go-template", "--template", "{{.status.id}} {{.status.size}}", image)
}

// isMeasured has a container write, and looks at what is said of it, its pod, and the disk that it is on.
func (c *crictl) isMeasured(pod, id string) {
	const written = 3 << 20
	c.does("exec", "--sync", id, "/bin/busybox", "dd", "if=/dev/zero", "of=/written", fmt.Sprintf("bs=%d", written), "count=1")
	c.wrote(written, func() *cri.FilesystemUsage {
		var all cri.ListContainerStatsResponse
		c.tells(&all, "stats", id)
		if len(all.Stats) != 1 {
			c.Fatalf("statistics are %v", all.Stats)
		}
		return all.Stats[0].WritableLayer
	})
	c.wrote(written, func() *cri.FilesystemUsage {
		var all cri.ListPodSandboxStatsResponse
		c.tells(&all, "statsp", pod)
		if len(all.Stats) != 1 || len(all.Stats[0].GetLinux().GetContainers()) != 1 {
			c.Fatalf("statistics of pods are %v", all.Stats)
		}
		return all.Stats[0].Linux.Containers[0].WritableLayer
	})
	c.idle()
	disk := strings.Fields(c.does("imagefsinfo", "--output", "go-template", "--template", "{{range .status.imageFilesystems}}{{.fsId.mountpoint}} {{.usedBytes.value}} {{end}}"))
	if want := []string{filepath.Join(c.root, "snapshotter"), fmt.Sprint(c.snapshotsTake())}; !slices.Equal(disk, want) {
		c.Errorf("the images' disk is %q, want %q", disk, want)
	}
}
