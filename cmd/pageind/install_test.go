package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/internal/tartest"
)

// series are the containerds that are told apart.
var series = []struct {
	name string
	old  bool
}{{"1.7", true}, {"2", false}}

// setUpLab is a lab whose containerd and daemon are configured by "pagein install".
type setUpLab struct {
	*runtimeLab
	own, theirs   string // configurations
	before, after string // of containerd
	options       []string
}

// newSetUpLab installs with more options, after the SetUp of o.
func newSetUpLab(t *testing.T, o servertest.ContainerdOptions, more ...string) *setUpLab {
	t.Helper()
	l := &setUpLab{runtimeLab: prepareRuntimeLab(t)}
	l.own = filepath.Join(l.dir, "pagein.toml")
	if err := os.WriteFile(l.own, []byte("# ours\nroot = \""+l.root+"\"\n[snapshotter]\naddress = \""+l.snapshots()+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.start("--config", l.own)
	first := o.SetUp
	o.SetUp = func(program, config string) {
		if first != nil {
			first(program, config)
		}
		l.theirs = config
		l.options = []string{"--containerd-program", program, "--containerd-config", config}
		l.before = l.text(config)
		if said := l.set("install", "containerd"); !strings.Contains(said, "Nothing is written") || l.text(config) != l.before {
			t.Errorf("it is not only shown:\n%s", said)
		}
		l.set(append([]string{"install", "containerd", "--apply"}, more...)...)
		l.after = l.text(config)
	}
	l.startContainerd(o)
	l.options = append(l.options, "--containerd", l.Socket())
	return l
}

// set runs a command that sets up.
func (l *setUpLab) set(args ...string) string {
	l.Helper()
	return l.pagein(append(append([]string{"--config", l.own}, args...), l.options...)...)
}

// refused runs one that fails, and returns what it says.
func (l *setUpLab) refused(args ...string) string {
	l.Helper()
	_, err := l.try(append(append([]string{"--config", l.own}, args...), l.options...)...)
	if err == nil {
		l.Errorf("pagein %s succeeds", strings.Join(args, " "))
		return ""
	}
	return err.Error()
}

func (l *setUpLab) text(path string) string {
	l.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		l.Fatal(err)
	}
	return string(b)
}

// TestContainerdIsSetUpCheckedAndHadBack pulls an image lazily after what "pagein install" wrote, and has it run on overlayfs after "pagein uninstall".
func TestContainerdIsSetUpCheckedAndHadBack(t *testing.T) {
	beside(t)
	for _, s := range series {
		t.Run(s.name, func(t *testing.T) {
			l := newSetUpLab(t, servertest.ContainerdOptions{Old: s.old})
			if said := l.set("install", "containerd", "--check"); !strings.Contains(said, "was pulled without its layers, and can be read") {
				t.Errorf("the check says %s", said)
			}
			if said := l.pagein("--config", l.own, "install", "containerd", "--check", "--containerd", l.Socket()); strings.Count(said, "\n") != 2 || !strings.Contains(said, `knows the snapshotter "pagein"`) {
				t.Errorf("a check alone says %s", said)
			}
			l.env = append(l.env, "PATH=/nowhere")
			if said := l.pagein("--config", l.own, "install", "containerd", "--check", "--containerd", l.Socket()); !strings.Contains(said, "can be read") {
				t.Errorf("where containerd's program is not to be found a check says %s", said)
			}
			l.env = nil
			if err := l.refused("install", "containerd", "--check", "--snapshotter", "nobody"); !strings.Contains(err, `does not know the snapshotter "nobody"`) || !strings.Contains(err, "install containerd --apply") {
				t.Errorf("a check with no snapshotter says %s", err)
			}
			if left := l.Lines("namespaces", "ls", "-q"); len(left) > 0 {
				t.Errorf("the checks leave the namespaces %v", left)
			}
			lazy, ordinary := l.push("lazy", l.layers...), l.push("ordinary", l.layers[0], l.layers[2])
			l.pagein("convert", "--quiet", lazy)
			l.set("install", "containerd", "--check-image", lazy)
			if err := l.refused("install", "containerd", "--check-image", ordinary); !strings.Contains(err, "was unpacked as any other image") {
				t.Errorf("an image without an artifact passes the check: %s", err)
			}
			for _, image := range []string{lazy, ordinary} {
				l.pagein("pull", "--containerd", l.Socket(), image)
			}
			l.Ctr("images", "tag", lazy, "127.0.0.1:1/a/name/where/it/is/not:1")
			if there := l.fetched(l.layers[1]); len(there) > 0 {
				t.Error("a layer was fetched")
			}
			if err := l.refused("uninstall", "containerd", "--apply"); !strings.Contains(err, "2 images still need pageind: give --complete") {
				t.Errorf("it is taken out under images: %s", err)
			}
			l.Ctr("containers", "create", "--snapshotter", "pagein", lazy, "user")
			if err := l.refused("uninstall", "containerd", "--apply", "--remove"); !strings.Contains(err, "1 container still uses pageind: remove it first") {
				t.Errorf("it is taken out under a container: %s", err)
			}
			l.Ctr("containers", "rm", "user")
			if l.text(l.theirs) != l.after {
				t.Error("a refusal changed the configuration")
			}
			other := l.layer(tartest.File("other", "x"))
			foreign := l.pushIndex("foreign", map[string][]imageLayer{runtime.GOARCH: {other}, "riscv64": l.layers[1:2]})
			l.pagein("convert", "--quiet", "--platform", "linux/riscv64", foreign)
			if said := l.pagein("pull", "--containerd", l.Socket(), "--platform", "linux/riscv64", foreign); !strings.Contains(said, "1 layer, 1 of them not fetched") {
				t.Errorf("of an image for other machines it says %s", said)
			}
			said := l.set("uninstall", "containerd")
			if want := "image " + foreign + " in default: 1 layer, "; !strings.Contains(said, want) {
				t.Errorf("it says %s, and not %q", said, want)
			}
			if err := l.refused("uninstall", "containerd", "--apply", "--complete", "--to", "overlay"); !strings.Contains(err, `no snapshotter "overlay"`) || !strings.Contains(err, "overlayfs") {
				t.Errorf("for a snapshotter that is not there it says %s", err)
			}
			if said := l.set("uninstall", "containerd", "--apply", "--complete"); !strings.Contains(said, "What stays: pageind") || !strings.Contains(said, "rm -r "+l.root+" ") {
				t.Errorf("it does not say what stays: %s", said)
			}
			if there := l.fetched(other); len(there) > 0 {
				t.Error("of an image that was pulled for other machines, that for this one was fetched")
			}
			if got := l.text(l.theirs); got != l.before {
				t.Errorf("containerd's configuration is\n%s\nand was\n%s", got, l.before)
			}
			if targets := l.mounted(); len(targets) > 0 {
				t.Errorf("still mounted are %v", targets)
			}
			l.Restart(l.Answers)
			for _, image := range []string{lazy, ordinary} {
				if got := l.Ctr("run", "--rm", "--snapshotter", "overlayfs", image, "after-uninstall", "/bin/busybox", "cat", "/three"); got != "3\n" {
					t.Errorf("%s prints %q", image, got)
				}
			}
		})
	}
}

// TestLazilyPulledImagesAreRemovedWhenPageinGoes is for those who would not wait for layers.
func TestLazilyPulledImagesAreRemovedWhenPageinGoes(t *testing.T) {
	beside(t)
	l := newSetUpLab(t, servertest.ContainerdOptions{})
	lazy := l.push("lazy", l.layers...)
	l.pagein("convert", "--quiet", lazy)
	l.pull(lazy)
	l.stop(unix.SIGKILL)
	if err := l.refused("uninstall", "containerd", "--apply", "--remove"); !strings.Contains(err, "start pageind") || l.text(l.theirs) != l.after || len(l.Lines("images", "ls", "-q")) != 1 {
		t.Errorf("it is taken out while nobody can remove snapshots: %s", err)
	}
	for _, args := range [][]string{{"pull", "--containerd", l.Socket(), l.push("other", l.layers[0])}, {"install", "containerd", "--check", "--containerd", l.Socket()}} {
		if _, err := l.try(append([]string{"--config", l.own}, args...)...); err == nil || !strings.Contains(err.Error(), "(start pageind: containerd cannot reach the snapshotter pagein)") {
			t.Errorf("%q says %v", args, err)
		}
	}
	l.start("--config", l.own)
	l.isFound()
	l.set("uninstall", "containerd", "--apply", "--remove")
	if images := l.Lines("images", "ls", "-q"); len(images) > 0 || len(l.mounted()) > 0 || l.text(l.theirs) != l.before {
		t.Errorf("images are left: %v, mounts: %v; containerd's configuration is\n%s", images, l.mounted(), l.text(l.theirs))
	}
}

// TestNothingIsTakenOutOfAnotherConfigurationThanContainerdRead has pageind's lines taken out only together with containerd's.
func TestNothingIsTakenOutOfAnotherConfigurationThanContainerdRead(t *testing.T) {
	beside(t)
	l := newSetUpLab(t, servertest.ContainerdOptions{})
	own, other := filepath.Join(l.dir, "marked.toml"), filepath.Join(l.dir, "other.toml")
	if err := os.WriteFile(other, []byte("version = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.pagein("--config", own, "install", "containerd", "--apply", "--containerd-config", other)
	if err := os.WriteFile(other, []byte("version = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := l.text(own)
	const words = ", but the running containerd has the snapshotter pagein: name its file with --containerd-config"
	unnamed := words
	if _, err := os.Stat("/etc/containerd/config.toml"); os.IsNotExist(err) {
		unnamed = "/etc/containerd/config.toml is not there" + words
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{unnamed, nil}, {unnamed, []string{"--complete"}}, {other + " does not declare it" + words, []string{"--containerd-config", other}},
	} {
		_, err := l.try(append([]string{"--config", own, "uninstall", "containerd", "--apply", "--containerd", l.Socket()}, c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) || l.text(own) != before || l.text(l.theirs) != l.after {
			t.Errorf("%q: %v; pageind's configuration is\n%s", c.args, err, l.text(own))
		}
	}
}

// TestWhatIsTakenOutCountsOnceContainerdIsRestarted asks again before that, to see what stays.
func TestWhatIsTakenOutCountsOnceContainerdIsRestarted(t *testing.T) {
	beside(t)
	l := newSetUpLab(t, servertest.ContainerdOptions{})
	for _, args := range [][]string{{"--apply"}, {"--apply"}, nil} {
		said := l.set(append([]string{"uninstall", "containerd"}, args...)...)
		if want := "ounts once both were restarted: "; !strings.Contains(said, want) || !strings.Contains(said, "What stays: pageind") || l.text(l.theirs) != l.before {
			t.Errorf("%q says %s", args, said)
		}
	}
	if err := l.refused("uninstall", "containerd", "--apply", "--complete"); !strings.Contains(err, "or restart it if that was taken out already") {
		t.Errorf("of images that containerd still unpacks for pageind it says %s", err)
	}
}

// TestLinesAreTakenOutOfWhatContainerdDoesNotAccept has somebody break the configuration elsewhere after containerd had read it.
func TestLinesAreTakenOutOfWhatContainerdDoesNotAccept(t *testing.T) {
	beside(t)
	for _, broken := range []string{"version = 9\n", "[a\n"} {
		l := newSetUpLab(t, servertest.ContainerdOptions{})
		image := l.push("ordinary", l.layers[0])
		l.pull(image)
		if err := os.WriteFile(l.theirs, []byte(broken+l.after), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := l.refused("uninstall", "containerd", "--apply"); !strings.Contains(err, "1 image still needs pageind") || l.text(l.theirs) != broken+l.after {
			t.Errorf("%q: it is taken out under an image: %s", broken, err)
		}
		l.set("uninstall", "containerd", "--apply", "--remove")
		if got := l.text(l.theirs); got != broken+l.before {
			t.Errorf("containerd's configuration is\n%s", got)
		}
	}
}

// TestWhatContainerdHasNotReadYetIsTakenOutAtOnce has a containerd that was not restarted after its configuration was changed.
func TestWhatContainerdHasNotReadYetIsTakenOutAtOnce(t *testing.T) {
	beside(t)
	l := newSetUpLab(t, servertest.ContainerdOptions{})
	systemctl := t.TempDir()
	if err := os.WriteFile(filepath.Join(systemctl, "systemctl"), []byte("#!/bin/sh\nexit 5\n"), 0o755); err != nil { // #nosec G306 -- it is to be run
		t.Fatal(err)
	}
	l.env = append(l.env, "PATH="+systemctl+":"+os.Getenv("PATH"))
	said, err := l.try(append([]string{"--config", l.own, "uninstall", "containerd", "--apply", "--restart"}, l.options...)...)
	if err == nil || !strings.Contains(err.Error(), "the files are written; without systemd: SIGTERM to pageind") || !strings.Contains(said, "What stays: pageind") {
		t.Errorf("without systemd it says %s, and fails with %v", said, err)
	}
	l.Restart(l.Answers)
	image := l.push("ordinary", l.layers...)
	l.Ctr("images", "pull", "--plain-http", image)
	l.set("install", "containerd", "--apply")
	l.set("uninstall", "containerd", "--apply")
	if got := l.text(l.theirs); got != l.before {
		t.Errorf("containerd's configuration is\n%s", got)
	}
}

// TestKubernetesPullsLazilyOnceItIsSetUpFor has a containerd whose configuration names another snapshotter for Kubernetes.
func TestKubernetesPullsLazilyOnceItIsSetUpFor(t *testing.T) {
	beside(t)
	for _, s := range []struct {
		name string
		old  bool
		set  string // for images
	}{{"1.7", true, ""}, {"2", false, ""}, {"2 that does not use the transfer service", false, "discard_unpacked_layers = true"}} {
		t.Run(s.name, func(t *testing.T) {
			beside(t)
			set := func(_, config string) {
				text, err := os.ReadFile(config)
				if err == nil {
					err = os.WriteFile(config, bytes.Replace(text, []byte("stats_collect"), []byte(s.set+"\nstats_collect"), 1), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			l := newSetUpLab(t, servertest.ContainerdOptions{Old: s.old, Sandbox: "pause.example/pause:1", SetUp: set}, "--cri")
			image := l.push("app", l.layers...)
			l.pagein("convert", "--quiet", image)
			conn, err := grpc.NewClient("unix://"+l.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			request := &cri.PullImageRequest{Image: &cri.ImageSpec{Image: image}}
			if _, err := cri.NewImageServiceClient(conn).PullImage(t.Context(), request); err != nil {
				t.Fatal(err)
			}
			if there := l.fetched(l.layers...); len(there) > 0 || len(l.mounted()) != 1 {
				t.Errorf("layers %v were fetched, mounted are %v", there, l.mounted())
			}
			if err := l.refused("uninstall", "containerd", "--apply"); !strings.Contains(err, "1 image still needs pageind") { // it has three names
				t.Errorf("it is taken out under an image: %s", err)
			}
			l.set("uninstall", "containerd", "--apply", "--complete")
			if got := l.text(l.theirs); got != l.before || len(l.mounted()) > 0 {
				t.Errorf("mounted are %v, and containerd's configuration is\n%s", l.mounted(), got)
			}
		})
	}
}
