package snapshotter

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/snapshotters"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/tartest"
)

// walk returns the snapshots that a filter lets through.
func (l *lab) walk(filters ...string) map[string]snapshots.Info {
	l.Helper()
	all := make(map[string]snapshots.Info)
	err := l.Walk(l.Context(), func(_ context.Context, info snapshots.Info) error {
		all[info.Name] = info
		return nil
	}, filters...)
	if err != nil {
		l.Fatal(err)
	}
	return maps.Clone(all)
}

func TestAPrefixThatIsNeededByItselfIsUnpacked(t *testing.T) {
	l := newLab(t)
	l.pull()
	mounts, err := l.Prepare(t.Context(), "other", l.chains[1].String())
	lower := l.lower(mounts)
	if err != nil || len(lower) != 2 {
		t.Fatalf("%v, %v", mounts, err)
	}
	for i, name := range []string{"layer2", "layer1"} {
		if _, err := os.Stat(filepath.Join(lower[i], name)); err != nil {
			t.Error(err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(lower[i], "gone"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
			t.Errorf("the whiteout in %s is %+v, %v", name, st, err)
		}
		if left, err := os.ReadDir(filepath.Dir(lower[i])); err != nil || len(left) != 3 { // fs, work and the note
			t.Errorf("beside it are %v, %v", left, err)
		}
	}
	for _, chain := range l.chains[:2] { // as du sees them: a file with a byte, and a whiteout, in a directory
		if usage, err := l.Usage(t.Context(), chain.String()); err != nil || usage.Inodes != 3 || usage.Size == 0 {
			t.Errorf("usage is %+v, %v", usage, err)
		}
	}
	// The image itself goes on as it was.
	mounts, err = l.Prepare(t.Context(), "container", l.chains[2].String())
	if lower := l.lower(mounts); err != nil || len(lower) != 1 || lower[0] != l.mounted()[0] {
		t.Errorf("%v, %v", mounts, err)
	}
	// What is unpacked stays so.
	clear(l.node.layers)
	if mounts, err := l.Prepare(t.Context(), "third", l.chains[1].String()); err != nil || !slices.Equal(l.lower(mounts), lower) {
		t.Errorf("%v, %v", mounts, err)
	}
}

// TestALayerThatIsNotWhatItsImagePromisesIsNotUnpacked also has it tried again.
func TestALayerThatIsNotWhatItsImagePromisesIsNotUnpacked(t *testing.T) {
	l := newLab(t)
	l.pull()
	right := l.node.layers[l.chains[0]]
	l.node.layers[l.chains[0]] = tartest.Archive(t, tartest.File("layer1", "evil"))
	if mounts, err := l.Prepare(t.Context(), "other", l.chains[1].String()); err == nil {
		t.Fatalf("it is mounted with %v", mounts)
	}
	if evil, err := filepath.Glob(filepath.Join(l.root, "snapshots", "*", "*", "layer*")); err != nil || len(evil) > 0 {
		t.Errorf("%v, %v", evil, err)
	}
	l.node.layers[l.chains[0]] = right
	if mounts, err := l.Prepare(t.Context(), "other", l.chains[1].String()); err != nil || len(l.lower(mounts)) != 2 {
		t.Errorf("%v, %v", mounts, err)
	}
}

// TestAnUnpackingThatWasKilledIsDoneAgain leaves what a killed daemon does: a part of a layer, or all of it in place and the note beside it.
func TestAnUnpackingThatWasKilledIsDoneAgain(t *testing.T) {
	for _, where := range []string{"unpacking", "fs"} {
		l := newLab(t)
		l.pull()
		ids, err := l.ancestors(t.Context(), l.chains[0].String())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(l.dir(ids[0]), where, "left"), 0o755); err != nil {
			t.Fatal(err)
		}
		mounts, err := l.Prepare(t.Context(), "other", l.chains[0].String())
		if err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(l.lower(mounts)[0]); err != nil || len(entries) != 2 {
			t.Errorf("%s: there are %v, %v", where, entries, err)
		}
	}
}

// TestDirectoriesOfLowerLayersKeepTheirModes has a layer with a file in a directory that only the layer below it describes, which is unpacked too, or is mounted.
func TestDirectoriesOfLowerLayersKeepTheirModes(t *testing.T) {
	for name, first := range map[string]int{"unpacked": 0, "mounted": 1} {
		l := newLab(t)
		for i, tar := range [][]byte{tartest.Archive(t, tartest.Directory("private", 0o700)), tartest.Archive(t, tartest.File("private/x", "x"))} {
			l.node.layers[l.chains[i]], l.node.diffIDs[l.chains[i]] = tar, digest.NewDigestFromBytes(digest.SHA256, sum(tar))
		}
		if first > 0 { // another image
			other := l.artifact()
			other.Subject, other.Chains = digest.FromString("base"), l.chains[:first]
			l.node.found[imageRepo+"@"+other.Subject.String()] = other
			if !l.layer(l.chains[0], "", labels(l.chains[0], snapshotters.TargetManifestDigestLabel, other.Subject.String())) {
				t.Fatal(l.log)
			}
		}
		l.pull()
		mounts, err := l.Prepare(t.Context(), "other", l.chains[1].String())
		if err != nil || len(l.lower(mounts)) != 2 {
			t.Fatalf("%s: %v, %v", name, mounts, err)
		}
		if info, err := os.Stat(filepath.Join(l.lower(mounts)[0], "private")); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// TestALayerIsFetchedFromTheImageThatNeedsIt if the one that it was noted for is not to be had any more, nor known.
func TestALayerIsFetchedFromTheImageThatNeedsIt(t *testing.T) {
	for _, first := range []string{imageRepo + "@" + manifest.String(), ""} {
		l := newLab(t)
		l.only().Image = first
		l.pull()
		l.node.gone = map[string]bool{first: true}
		above, other := digest.FromString("above"), digest.FromString("other")
		ask := func(name string) error {
			own := labels(above, snapshotters.TargetRefLabel, name, snapshotters.TargetManifestDigestLabel, other.String())
			_, err := l.Prepare(t.Context(), "extract", l.chains[1].String(), snapshots.WithLabels(own))
			return err
		}
		if err := ask(""); err == nil {
			t.Errorf("image %q: the layers below come from nowhere", first)
		}
		if err := ask("127.0.0.1:5000/other:1"); err != nil {
			t.Errorf("image %q: %v", first, err)
		}
	}
}
