package mkfs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/erofstest"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"
)

func open(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// dirOf returns a source that reads a directory.
func dirOf(path string) Source {
	return func(ctx context.Context, t *Tree, sink Sink) error { return t.AddDir(ctx, path, sink) }
}

// tarOf returns a source that reads a tar file.
func tarOf(path string) Source {
	return func(ctx context.Context, t *Tree, sink Sink) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return t.AddTar(ctx, f, sink)
	}
}

// makeImage writes an image into a temporary directory and returns its path.
func makeImage(t testing.TB, source Source, o ImageOptions) (string, ImageStats) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.erofs")
	stats, err := WriteImage(context.Background(), path, source, o)
	if err != nil {
		t.Fatal(err)
	}
	return path, stats
}

// accepted lets tools that nobody here wrote judge an image. They count the blocks of a device, too.
func accepted(t testing.TB, image, device string, stats ImageStats) {
	t.Helper()
	args := []string{image}
	if device != "" {
		args = []string{"--device=" + device, image}
	}
	run(t, nil, "fsck.erofs", args...)
	info, err := os.Stat(image)
	if err != nil {
		t.Fatal(err)
	}
	super := map[string]string{}
	for line := range strings.Lines(string(run(t, nil, "dump.erofs", append([]string{"-s"}, args...)...))) {
		key, value, _ := strings.Cut(line, ":")
		super[key] = strings.TrimSpace(value)
	}
	if blocks := super["Filesystem blocks"]; blocks != fmt.Sprint((info.Size()+stats.BlobSize)/erofs.BlockSize) || !strings.Contains(super["Filesystem features"], "sb_csum") {
		t.Errorf("dump.erofs sees %q in a file of %d bytes with a device of %d", super, info.Size(), stats.BlobSize)
	}
	if got, want := super["Filesystem inode count"], fmt.Sprint(stats.Image.Inodes); got != want {
		t.Errorf("dump.erofs sees %s inodes, %s were written", got, want)
	}
	if got, want := strings.ReplaceAll(super["Filesystem UUID"], "-", ""), fmt.Sprintf("%x", stats.UUID); got != want {
		t.Errorf("dump.erofs sees the UUID %s, %s was written", got, want)
	}
}

// sources are the trees that every image must reproduce. Package difftest has many more, and more readers.
func sources(t *testing.T) map[string]string {
	all := map[string]string{}
	for seed, name := range []string{"random tree 0", "random tree 1", "random tree 2"} {
		all[name] = t.TempDir()
		treetest.Random(t, all[name], int64(seed))
	}
	return all
}

func TestMountedImageEqualsItsSource(t *testing.T) {
	require.Root(t)
	for name, source := range sources(t) {
		t.Run(name, func(t *testing.T) {
			image, stats := makeImage(t, dirOf(source), ImageOptions{})
			accepted(t, image, "", stats)
			treetest.Compare(t, source, erofstest.Mount(t, image))
		})
		t.Run(name+" on a separate device", func(t *testing.T) {
			device := filepath.Join(t.TempDir(), "data")
			image, stats := makeImage(t, dirOf(source), ImageOptions{BlobDev: device})
			info, err := os.Stat(device)
			if err != nil {
				t.Fatal(err)
			}
			if info.Size() != stats.BlobSize || len(stats.BlobDev) != 64 {
				t.Errorf("device has %d bytes and tag %q, stats say %d", info.Size(), stats.BlobDev, stats.BlobSize)
			}
			accepted(t, image, device, stats)
			treetest.Compare(t, source, erofstest.Mount(t, image, device))
		})
	}
}
