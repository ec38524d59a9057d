package snapshotter

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/snapshotters"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/tartest"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/trust"
)

// fakeNode has artifacts by reference. What it mounts is a directory with the artifact's name in a file, and a directory that is its owner's only.
type fakeNode struct {
	t testing.TB

	mu      sync.Mutex
	found   map[string]*Found
	layers  map[digest.Digest][]byte        // by chain ID
	diffIDs map[digest.Digest]digest.Digest // by chain ID
	gone    map[string]bool                 // references of images that their registry has no more
	asked   []string                        // references that it was asked for
	silent  bool                            // it does not answer who looks for an artifact
	broken  error                           // of mounts
	late    error                           // of mounts that are there all the same
	mounts  int
	used    map[string]int64

	unmounted []string // targets that it was told of
	began     []string // likewise, by containers
}

func (f *fakeNode) Find(ctx context.Context, ref oci.Ref, _ artifact.Accept) (*Found, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, ref.String())
	if f.silent {
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if found := f.found[ref.String()]; found != nil {
		return found, nil
	}
	return nil, errors.New("no artifact is attached to it")
}

func (f *fakeNode) Layer(_ context.Context, image oci.Ref, chain digest.Digest) (io.ReadCloser, digest.Digest, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.layers[chain] == nil || f.gone[image.String()] {
		return nil, "", errors.New("the registry is out of reach")
	}
	return io.NopCloser(bytes.NewReader(f.layers[chain])), f.diffIDs[chain], nil
}

func (f *fakeNode) Mount(_ context.Context, artifact, target string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		return f.broken
	}
	dir := f.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "from"), []byte(artifact), 0o644); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "private"), 0o700); err != nil {
		return err
	}
	f.mounts++
	if err := unix.Mount(dir, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return f.late
}

func (f *fakeNode) Used(context.Context) (map[string]int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used, nil
}

func (f *fakeNode) Begins(target string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.began = append(f.began, target)
}

func (f *fakeNode) Unmount(_ context.Context, target string) error {
	f.mu.Lock()
	f.unmounted = append(f.unmounted, target)
	f.mu.Unlock()
	if _, mounted, err := kmount.Lookup(target); err != nil || !mounted {
		return err
	}
	return kmount.Unmount(target, 0)
}

// lab is a snapshotter with a fake node, and an image of three layers.
type lab struct {
	*testing.T
	*Snapshotter
	root   string
	node   *fakeNode
	log    *bytes.Buffer
	chains []digest.Digest
	tars   [][]byte
}

const (
	imageName = "127.0.0.1:5000/app:1"
	imageRepo = "127.0.0.1:5000/app"
)

var manifest, lazyManifest = digest.FromString("manifest"), digest.FromString("artifact")

func newLab(t *testing.T) *lab {
	t.Helper()
	require.Root(t)
	l := &lab{T: t, root: t.TempDir(), log: new(bytes.Buffer), node: &fakeNode{
		t: t, found: make(map[string]*Found), layers: make(map[digest.Digest][]byte), diffIDs: make(map[digest.Digest]digest.Digest),
	}}
	t.Cleanup(func() {
		dirs, _ := filepath.Glob(filepath.Join(l.root, "snapshots", "*", "fs"))
		for _, dir := range dirs {
			for unix.Unmount(dir, unix.MNT_DETACH) == nil {
			}
		}
	})
	for i := range 3 {
		tar := tartest.Archive(t, tartest.File(fmt.Sprintf("layer%d", i+1), "x"), tartest.File(".wh.gone", ""))
		tar = append(tar, make([]byte, 8<<10)...) // as programs pad them
		id := digest.NewDigestFromBytes(digest.SHA256, sum(tar))
		chain := id
		if i > 0 {
			chain = digest.FromString(l.chains[i-1].String() + " " + id.String())
		}
		l.tars, l.chains = append(l.tars, tar), append(l.chains, chain)
		l.node.layers[chain], l.node.diffIDs[chain] = tar, id
	}
	l.node.found[imageRepo+"@"+manifest.String()] = l.artifact()
	l.open(nil)
	return l
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

// artifact is the one that belongs to the image.
func (l *lab) artifact() *Found {
	return &Found{
		Artifact: imageRepo + "@" + lazyManifest.String(), Image: imageRepo + "@" + manifest.String(), Subject: manifest, Chains: l.chains, MetaSize: 4096,
	}
}

// open opens the snapshots, as a daemon does that starts.
func (l *lab) open(policy *trust.Policy) {
	l.Helper()
	if l.Snapshotter != nil {
		if err := l.Close(); err != nil {
			l.Fatal(err)
		}
	}
	s, err := New(Config{Root: l.root, Node: l.node, Trust: policy, Log: slog.New(slog.NewTextHandler(l.log, nil))})
	if err != nil {
		l.Fatal(err)
	}
	l.Snapshotter = s
	l.T.Cleanup(func() { _ = s.Close() }) // closed by the next open, perhaps
}

// labels are those of containerd for a layer of the image.
func labels(chain digest.Digest, more ...string) map[string]string {
	m := map[string]string{
		snapshots.LabelSnapshotRef: chain.String(), snapshotters.TargetRefLabel: imageName, snapshotters.TargetManifestDigestLabel: manifest.String(),
	}
	for i := 0; i < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

// layer asks for a layer as containerd does when it unpacks, and reports whether it is there already.
func (l *lab) layer(chain digest.Digest, parent string, labels map[string]string) (there bool) {
	l.Helper()
	mounts, err := l.Prepare(l.Context(), "extract-"+chain.Encoded()[:8], parent, snapshots.WithLabels(labels))
	if errdefs.IsAlreadyExists(err) {
		return true
	}
	if err != nil {
		l.Fatal(err)
	}
	if len(mounts) != 1 {
		l.Fatalf("mounts are %v", mounts)
	}
	return false
}

// pull asks for all layers of the image, which must all be there already, and returns the name of the top one.
func (l *lab) pull() string {
	l.Helper()
	parent := ""
	for _, c := range l.chains {
		if !l.layer(c, parent, labels(c)) {
			l.Fatalf("layer %s is to be unpacked: %s", c, l.log)
		}
		parent = c.String()
	}
	return parent
}

// lower are the layers of a mount, the topmost first.
func (l *lab) lower(mounts []mount.Mount) []string {
	l.Helper()
	if len(mounts) != 1 {
		l.Fatalf("mounts are %v", mounts)
	}
	if mounts[0].Type == "bind" {
		return []string{mounts[0].Source}
	}
	for _, o := range mounts[0].Options {
		if all, ok := strings.CutPrefix(o, lowerOption); ok {
			return strings.Split(all, ":")
		}
	}
	return nil
}

// mounted are the directories of snapshots that something is mounted on.
func (l *lab) mounted() (targets []string) {
	l.Helper()
	dirs, err := filepath.Glob(filepath.Join(l.root, "snapshots", "*", "fs"))
	if err != nil {
		l.Fatal(err)
	}
	for _, dir := range dirs {
		if _, ok, err := kmount.Lookup(dir); err != nil {
			l.Fatal(err)
		} else if ok {
			targets = append(targets, dir)
		}
	}
	return targets
}
