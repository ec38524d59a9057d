package snapshotter

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/snapshotters"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/oci"
	ociartifact "github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/trust"
)

func TestContainersRunOnTheOneMountOfTheirImage(t *testing.T) {
	l := newLab(t)
	top := l.pull()
	if len(l.mounted()) != 1 || len(l.node.asked) != 1 {
		t.Errorf("mounted: %v; asked for: %v", l.mounted(), l.node.asked)
	}
	want := l.mounted()[0]
	if b, err := os.ReadFile(filepath.Join(want, "from")); err != nil || string(b) != l.artifact().Artifact {
		t.Errorf("%q is mounted, %v", b, err)
	}
	mounts, err := l.Prepare(t.Context(), "container", top)
	if err != nil || mounts[0].Type != "overlay" || !slices.Equal(l.lower(mounts), []string{want}) {
		t.Errorf("container: %v, %v", mounts, err)
	}
	if len(l.node.began) > 0 {
		t.Errorf("before a container began %v was told of", l.node.began)
	}
	if again, err := l.Mounts(t.Context(), "container"); err != nil || !slices.Equal(l.lower(again), []string{want}) {
		t.Errorf("container, asked again: %v, %v", again, err)
	}
	if !slices.Equal(l.node.began, []string{want}) {
		t.Errorf("it begins on %v", l.node.began)
	}
	view, err := l.View(t.Context(), "view", top)
	if err != nil || view[0].Type != "bind" || view[0].Source != want || !slices.Contains(view[0].Options, "ro") {
		t.Errorf("view: %v, %v", view, err)
	}
	if usage, err := l.Usage(t.Context(), top); err != nil || usage.Size != 4096 {
		t.Errorf("usage is %+v, %v", usage, err)
	}
	if l.node.mounts != 1 {
		t.Errorf("it was mounted %d times", l.node.mounts)
	}
}

func TestAMountIsKnownByTheNameOfItsImage(t *testing.T) {
	l := newLab(t)
	l.pull()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(l.root, link); err != nil {
		t.Fatal(err)
	}
	linked := &Snapshotter{root: link, log: l.Snapshotter.log}
	for _, s := range []*Snapshotter{l.Snapshotter, linked} {
		if name := s.Name(l.mounted()[0]); name != imageName {
			t.Errorf("the image is called %q", name)
		}
	}
	for _, other := range []string{"/mnt/a", l.root, l.root + "/snapshots", l.root + "/snapshots/77/fs", l.mounted()[0] + "/fs", filepath.Dir(l.mounted()[0])} {
		if name := l.Name(other); name != "" {
			t.Errorf("on %s there is %q", other, name)
		}
	}
}

func TestLayersAboveALazilyMountedImageAreOrdinary(t *testing.T) {
	l := newLab(t)
	top := l.pull()
	mounts, err := l.Prepare(t.Context(), "extract", top, snapshots.WithLabels(map[string]string{snapshots.LabelSnapshotRef: digest.FromString("child").String()}))
	if err != nil || !slices.Equal(l.lower(mounts), l.mounted()) {
		t.Fatalf("%v, %v", mounts, err)
	}
	if err := l.Commit(t.Context(), "child", "extract"); err != nil {
		t.Fatal(err)
	}
	mounts, err = l.Prepare(t.Context(), "container", "child")
	if lower := l.lower(mounts); err != nil || len(lower) != 2 || lower[1] != l.mounted()[0] {
		t.Errorf("%v, %v", mounts, err)
	}
}

// TestArtifactsThatAreNotTheImagesAreNotUsed has containerd unpack the layers, and says once why.
func TestArtifactsThatAreNotTheImagesAreNotUsed(t *testing.T) {
	other := digest.FromString("other")
	for name, c := range map[string]struct {
		spoil func(*lab)
		image string
		why   string
	}{
		"none":              {func(l *lab) { clear(l.node.found) }, imageName, "no artifact is attached"},
		"of another image":  {func(l *lab) { l.only().Subject = other }, imageName, "not to this image"},
		"without layers":    {func(l *lab) { l.only().Chains = nil }, imageName, "does not say for which layers"},
		"for other layers":  {func(l *lab) { l.only().Chains = []digest.Digest{other} }, imageName, "does not stand for it"},
		"that cannot mount": {func(l *lab) { l.node.broken = errors.New("broken kernel"); l.only().Chains = l.chains[:1] }, imageName, "broken kernel"},
		"not trusted":       {func(*lab) {}, "registry.example.com/app:1", "is not trusted"},
		"not a name":        {func(*lab) {}, "oci:app", "is not one of a registry"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			c.spoil(l)
			parent := ""
			for i, chain := range l.chains {
				if l.layer(chain, parent, labels(chain, snapshotters.TargetRefLabel, c.image)) {
					t.Fatalf("layer %d is there already", i+1)
				}
				parent = "default/1/" + chain.String()
				if err := l.Commit(t.Context(), parent, "extract-"+chain.Encoded()[:8]); err != nil {
					t.Fatal(err)
				}
			}
			if len(l.mounted()) > 0 || l.node.mounts > 0 {
				t.Errorf("mounted: %v", l.mounted())
			}
			if said := l.log.String(); strings.Count(said, c.why) != 1 || strings.Count(said, "unpacked as usual") != 1 {
				t.Errorf("want %q once; said was\n%s", c.why, said)
			}
			if name == "not trusted" && len(l.node.asked) > 0 {
				t.Errorf("asked for %v, which is not trusted", l.node.asked)
			}
			if mounts, err := l.Prepare(t.Context(), "container", parent); err != nil || len(l.lower(mounts)) != 3 {
				t.Errorf("container: %v, %v", mounts, err)
			}
		})
	}
}

// only is the one artifact that there is.
func (l *lab) only() *Found {
	for _, f := range l.node.found {
		return f
	}
	return nil
}

func TestAMountThatFailsAtTheTopHasTheLayersBelowUnpacked(t *testing.T) {
	l := newLab(t)
	l.node.broken = errors.New("broken kernel")
	if !l.layer(l.chains[0], "", labels(l.chains[0])) || !l.layer(l.chains[1], l.chains[0].String(), labels(l.chains[1])) {
		t.Fatal("lower layers are to be unpacked")
	}
	if l.layer(l.chains[2], l.chains[1].String(), labels(l.chains[2])) {
		t.Fatal("the top layer is there already")
	}
	mounts, err := l.Mounts(t.Context(), "extract-"+l.chains[2].Encoded()[:8])
	lower := l.lower(mounts)
	if err != nil || len(lower) != 2 {
		t.Fatalf("%v, %v", mounts, err)
	}
	for i, name := range []string{"layer2", "layer1"} {
		if _, err := os.Stat(filepath.Join(lower[i], name)); err != nil {
			t.Error(err)
		}
	}
}

func TestSnapshotsOfOneNamespaceDoNotHideTheLayerFromAnother(t *testing.T) {
	l := newLab(t)
	// Here the first layer was unpacked before there was an artifact.
	if _, err := l.Prepare(t.Context(), "x", ""); err != nil {
		t.Fatal(err)
	}
	const own = "default/7/first"
	if err := l.Commit(t.Context(), own, "x"); err != nil {
		t.Fatal(err)
	}
	l.pull()
	if !l.layer(l.chains[1], own, labels(l.chains[1])) {
		t.Error("the second layer is to be unpacked")
	}
	seen := make(map[string]bool)
	filter := "labels.\"" + snapshots.LabelSnapshotRef + "\"==" + l.chains[1].String()
	for name, info := range l.walk(filter) {
		seen[info.Parent] = true
		if info.Kind != snapshots.KindCommitted {
			t.Errorf("%s is %v", name, info.Kind)
		}
	}
	if len(seen) != 2 || !seen[own] || !seen[l.chains[0].String()] {
		t.Errorf("it lies on %v", seen)
	}
	if l.layer(l.chains[1], "", labels(l.chains[1])) {
		t.Error("the second layer is there on nothing")
	}
}

func TestAnImageMayNameItsArtifactByItself(t *testing.T) {
	const label = ociartifact.Annotation
	for name, c := range map[string]struct {
		labels  map[string]string
		ref     string
		subject digest.Digest
		fails   bool
	}{
		"nothing said":            {nil, "", "", true},
		"name without a manifest": {map[string]string{snapshotters.TargetRefLabel: imageName}, "", "", true},
		"image":                   {labels(""), imageRepo + "@" + manifest.String(), manifest, false},
		"artifact":                {map[string]string{label: imageRepo + "@" + lazyManifest.String()}, imageRepo + "@" + lazyManifest.String(), "", false},
		"artifact of an image that was copied": {
			labels("", label, "elsewhere.example.com/app@"+lazyManifest.String()), imageRepo + "@" + lazyManifest.String(), "", false,
		},
		"artifact by tag":            {map[string]string{label: imageName}, "", "", true},
		"artifact in a layout":       {map[string]string{label: "oci:/etc@" + lazyManifest.String()}, "", "", true},
		"artifact that is no digest": {map[string]string{label: imageRepo + "@sha256:x"}, "", "", true},
	} {
		got, err := candidateOf(c.labels)
		if (err != nil) != c.fails || !c.fails && (got.ref.String() != c.ref || got.subject != c.subject) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestAnImageDoesNotChooseWhomOnLoopbackIsTrusted has one name a place on loopback, of which nobody else has said that it is from there.
func TestAnImageDoesNotChooseWhomOnLoopbackIsTrusted(t *testing.T) {
	repository := oci.Ref{Kind: oci.Registry, Host: "127.0.0.1:5000", Repository: "evil/app"}
	named, err := trust.New(trust.Rule{Repositories: []string{repository.Host}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		policy  *trust.Policy
		labels  map[string]string
		trusted bool
	}{
		{"by the image", nil, nil, false},
		{"by containerd", nil, map[string]string{snapshotters.TargetRefLabel: repository.String() + ":1"}, true},
		{"by the operator", named, nil, true},
	} {
		l := newLab(t)
		l.open(c.policy)
		l.node.found = map[string]*Found{repository.String() + "@" + lazyManifest.String(): l.artifact()}
		all := map[string]string{snapshots.LabelSnapshotRef: l.chains[0].String(), ociartifact.Annotation: repository.String() + "@" + lazyManifest.String()}
		maps.Copy(all, c.labels)
		if there := l.layer(l.chains[0], "", all); there != c.trusted || c.trusted == strings.Contains(l.log.String(), "the image itself says") {
			t.Errorf("%s: it is there: %v; %s", c.name, there, l.log)
		}
	}
}

func TestRemovedSnapshotsLeaveNothing(t *testing.T) {
	l := newLab(t)
	top := l.pull()
	if _, err := l.Prepare(t.Context(), "container", top); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(t.Context(), top); err == nil || len(l.mounted()) != 1 {
		t.Errorf("%v; mounted: %v: a container needs it", err, l.mounted())
	}
	for _, key := range []string{"container", top, l.chains[1].String(), l.chains[0].String()} {
		if err := l.Remove(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(l.root, "snapshots")); err != nil || len(left) > 0 || len(l.mounted()) > 0 {
		t.Errorf("left: %v, %v; mounted: %v", left, err, l.mounted())
	}
}

// TestABusyMountIsUnmountedLater has somebody look around in it while its snapshot is removed.
func TestABusyMountIsUnmountedLater(t *testing.T) {
	l := newLab(t)
	top := l.pull()
	busy, err := os.Open(filepath.Join(l.mounted()[0], "from"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := l.Remove(t.Context(), top); err != nil || len(l.mounted()) != 1 {
		t.Fatalf("%v; mounted: %v", err, l.mounted())
	}
	if _, err := os.Stat(filepath.Join(l.mounted()[0], "from")); err != nil {
		t.Errorf("what is mounted was removed: %v", err)
	}
	if err := busy.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Cleanup(t.Context()); err != nil || len(l.mounted()) > 0 {
		t.Errorf("%v; mounted: %v", err, l.mounted())
	}
}

func TestAfterARestartOfTheMachineImagesAreMountedAgain(t *testing.T) {
	l := newLab(t)
	top := l.pull()
	if _, err := l.Prepare(t.Context(), "container", top); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(l.mounted()[0], 0); err != nil {
		t.Fatal(err)
	}
	l.open(nil)
	if _, err := l.Mounts(t.Context(), "container"); err != nil || len(l.mounted()) != 1 {
		t.Errorf("%v; mounted: %v", err, l.mounted())
	}
}

// TestTheNodeIsToldOfWhatIsRemovedBeforeItIsMountedAgain has it not try to do so for ever.
func TestTheNodeIsToldOfWhatIsRemovedBeforeItIsMountedAgain(t *testing.T) {
	l := newLab(t)
	top := l.pull()
	target := l.mounted()[0]
	if err := unix.Unmount(target, 0); err != nil {
		t.Fatal(err)
	}
	l.open(nil)
	for _, key := range []string{top, l.chains[1].String(), l.chains[0].String()} {
		if err := l.Remove(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(l.node.unmounted, []string{target}) {
		t.Errorf("it was told of %v, not of %s", l.node.unmounted, target)
	}
}

// TestALayerThatAKilledDaemonDidNotFinishIsNone leaves what one does that is killed on the way, and has containerd ask again, as another snapshot, and then remove the first one.
func TestALayerThatAKilledDaemonDidNotFinishIsNone(t *testing.T) {
	for _, steps := range []int{1, 2, 3} {
		l := newLab(t)
		l.chains = l.chains[:1]
		l.only().Chains = l.chains
		const key = "extract-killed"
		if _, err := l.Snapshotter.Snapshotter.Prepare(t.Context(), key, ""); err != nil {
			t.Fatal(err)
		}
		ids, err := l.ancestors(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		n := note{Artifact: l.artifact().Artifact, Image: l.artifact().Image, Chain: l.chains[0], Top: true}
		if steps > 1 {
			err = l.writeNote(ids[0], n)
		}
		if steps > 2 && err == nil {
			err = l.mount(t.Context(), ids[0], &n)
		}
		if err != nil {
			t.Fatal(err)
		}
		l.open(nil)
		if there, err := l.committed(t.Context(), l.chains[0].String(), ""); there || err != nil {
			t.Errorf("after step %d the layer is there: %v, %v", steps, there, err)
		}
		top := l.pull()
		if err := l.Remove(t.Context(), key); err != nil {
			t.Error(err)
		}
		mounts, err := l.Prepare(t.Context(), "container", top)
		if err != nil || !slices.Equal(l.lower(mounts), l.mounted()) {
			t.Errorf("after step %d: %v, %v; mounted: %v", steps, mounts, err, l.mounted())
		}
		if left, err := os.ReadDir(filepath.Join(l.root, "snapshots")); err != nil || len(left) != 2 {
			t.Errorf("after step %d there are %v, %v", steps, left, err)
		}
	}
}

// TestAPullThatIsCancelledDecidesNothing has the next one find the artifact.
func TestAPullThatIsCancelledDecidesNothing(t *testing.T) {
	l := newLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if found := l.decide(ctx, l.chains[0], labels(l.chains[0])); found != nil {
		t.Errorf("found %+v", found)
	}
	l.pull()
}

// TestWhatTheNodeMountsMeanwhileIsNotMountedTwice has it restore what was mounted before a restart of the machine at the moment when it is asked.
func TestWhatTheNodeMountsMeanwhileIsNotMountedTwice(t *testing.T) {
	l := newLab(t)
	l.node.late = errors.New("it is mounted there already")
	l.pull()
	if l.node.mounts != 1 || len(l.mounted()) != 1 {
		t.Errorf("mounted %d times: %v", l.node.mounts, l.mounted())
	}
}

// TestWhatAKilledDaemonDidNotRecordStopsNobody has one killed after it made the directory of a snapshot and before it recorded the snapshot, so that the next one gets the same number.
func TestWhatAKilledDaemonDidNotRecordStopsNobody(t *testing.T) {
	l := newLab(t)
	if _, err := l.Prepare(t.Context(), "first", ""); err != nil {
		t.Fatal(err)
	}
	ids, err := l.ancestors(t.Context(), "first")
	if err != nil {
		t.Fatal(err)
	}
	last, err := strconv.Atoi(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{strconv.Itoa(last + 1), "new-1"} {
		if err := os.MkdirAll(filepath.Join(l.root, "snapshots", name, "fs", "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l.open(nil)
	if _, err := l.Prepare(t.Context(), "second", ""); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"first", "second"} {
		if err := l.Remove(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(l.root, "snapshots")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestWhatAKilledDaemonDidNotRemoveIsRemovedByTheNext has one killed after it forgot a snapshot.
func TestWhatAKilledDaemonDidNotRemoveIsRemovedByTheNext(t *testing.T) {
	l := newLab(t)
	top := l.pull()
	for _, key := range []string{top, l.chains[1].String(), l.chains[0].String()} {
		if err := l.Snapshotter.Snapshotter.Remove(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.mounted()) != 1 {
		t.Fatalf("mounted: %v", l.mounted())
	}
	l.open(nil)
	await.True(t, "all to be removed", func() bool {
		left, err := os.ReadDir(filepath.Join(l.root, "snapshots"))
		if err != nil {
			t.Fatal(err)
		}
		return len(left) == 0 && len(l.mounted()) == 0
	})
}
