package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// asProgram is the environment variable with which the test binary is pagein itself.
const asProgram = "PAGEIN_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// program returns a command that runs pagein in a process of its own.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// mixedTree has many small files, and large ones that do not compress.
func mixedTree(t *testing.T) string {
	t.Helper()
	dir, rng := t.TempDir(), rand.NewChaCha8([32]byte{})
	for i := range 300 {
		b := make([]byte, 1000+i*50)
		if i%100 == 0 {
			b = make([]byte, 2<<20)
		}
		if _, err := rng.Read(b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// checkLayout lets another reader judge a layout: its index must be sound, all that manifests list must be there, and no file may be anything but
// what its name says. Files that nobody can take for blobs are what a killed process may leave.
func checkLayout(t *testing.T, dir string) (tags []string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "oci-layout")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	index, err := ggcrlayout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatalf("another reader finds no layout: %v", err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range manifest.Manifests {
		tags = append(tags, d.Annotations["org.opencontainers.image.ref.name"])
		img, err := ggcrlayout.Path(dir).Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		m, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, layer := range append(m.Layers, m.Config) {
			if fi, err := os.Stat(filepath.Join(dir, "blobs", layer.Digest.Algorithm, layer.Digest.Hex)); err != nil || fi.Size() != layer.Size {
				t.Errorf("%s of %s: %v", layer.Digest, d.Digest, err)
			}
		}
	}
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range blobs {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := digest.FromBytes(b).Encoded(); got != filepath.Base(name) {
			t.Errorf("%s has SHA-256 %s", name, got)
		}
	}
	return tags
}

// leftovers lists files that are being written, or were.
func leftovers(t *testing.T, dirs ...string) (found []string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.Contains(d.Name(), "pagein-") {
				found = append(found, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return found
}

func TestAnEndedConversionLeavesAWholeLayoutOrNone(t *testing.T) {
	source, temp, older := mixedTree(t), t.TempDir(), convertible(t)
	convert := func(layout string) *exec.Cmd {
		cmd := program(t, "convert", "--quiet", "--temp-dir", temp, "dir:"+source, "oci:"+layout+":v1")
		cmd.Env = append(cmd.Env, "GOMAXPROCS=1")
		return cmd
	}
	started := time.Now()
	if out, err := convert(filepath.Join(t.TempDir(), "layout")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	usual := time.Since(started)
	signals := []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGINT}
	ended := map[bool]map[unix.Signal]int{false: {}, true: {}} // by whether there was a layout before
	all := func() bool {
		for _, s := range signals {
			if ended[false][s] == 0 || ended[true][s] == 0 {
				return false
			}
		}
		return true
	}
	enough := time.Now().Add(8 * time.Second)
	for i := 0; i < 60 && (time.Now().Before(enough) || !all()); i++ { // a busy machine needs longer to be hit by every signal
		layout := filepath.Join(t.TempDir(), "a", "layout")
		signal, existing := signals[i%len(signals)], i%2 == 1
		if existing {
			convertJSON(t, "--quiet", "dir:"+older, "oci:"+layout+":v1")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.Float64()*1.1*float64(usual)))
		cmd := convert(layout)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(signal) }) // it may have ended
		err := cmd.Wait()
		stop()
		cancel()
		tags := checkLayout(t, layout)
		switch {
		case (err == nil || existing) && (len(tags) != 1 || tags[0] != "v1"):
			t.Fatalf("the tags are %q after %v", tags, err)
		case err != nil && !existing && signal != unix.SIGKILL:
			if _, statErr := os.Stat(filepath.Dir(layout)); statErr == nil {
				t.Errorf("signal %v: the layout is left behind, tags %q", signal, tags)
			}
		}
		if left := leftovers(t, temp); len(left) > 0 {
			t.Errorf("signal %v leaves %q", signal, left)
		}
		if err == nil {
			continue
		}
		ended[existing][signal]++
		if signal == unix.SIGKILL {
			if out, err := convert(layout).CombinedOutput(); err != nil {
				t.Fatalf("the conversion after a killed one: %v: %s", err, out)
			}
			if tags := checkLayout(t, layout); len(tags) != 1 {
				t.Errorf("tags are %q", tags)
			}
			if left := leftovers(t, layout); len(left) > 0 {
				t.Errorf("the next conversion leaves %q", left)
			}
		}
	}
	if !all() {
		t.Errorf("some signal ended no conversion: %v; one takes %v", ended, usual)
	}
}
