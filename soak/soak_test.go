package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pagein/pagein/internal/require"
)

var (
	length = flag.Duration("soak.time", 45*time.Second, "how long TestSoak soaks")
	seed   = flag.String("soak.seed", "", "of TestSoak's schedule (default: another one each time)")
)

// TestSoak is a short form of "make soak": no wrong byte, no error without need, nothing left behind.
func TestSoak(t *testing.T) {
	require.Root(t)
	require.Tool(t, "mkfs.ext4")
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir+"/", ".", "../cmd/pagein", "../cmd/pageind", "../cmd/pagein-keeper")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	args := []string{"-time", length.String(), "-round", "15s"}
	if *seed != "" {
		args = append(args, "-seed", *seed)
	}
	out, err := exec.Command(filepath.Join(dir, "soak"), args...).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}
