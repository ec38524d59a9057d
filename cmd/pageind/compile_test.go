package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/compilertree"
	"github.com/pagein/pagein/internal/require"
)

// TestACompilerRunsOnAnOverlayOverALazyMount is what a container does: programs start programs, map libraries and write next to what they read. (Conformance cases 008 and 009 of
// cachefiles.)
func TestACompilerRunsOnAnOverlayOverALazyMount(t *testing.T) {
	l := newLab(t)
	l.start()
	lower := l.mount(l.compiler(), "lower")
	root := l.overlay(lower)
	if err := os.WriteFile(filepath.Join(root, "tmp", "sum.c"), []byte(compilertree.Program), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // cold, and again
		for _, c := range []struct {
			args []string
			want string
		}{
			{[]string{compilertree.Compiler, compilertree.Optimization, "-o", "/tmp/sum", "/tmp/sum.c"}, ""},
			{[]string{"/tmp/sum", "4", "50", "600"}, fmt.Sprintln(4 + 2*50 + 3*600)},
		} {
			cmd := exec.Command(c.args[0], c.args[1:]...)
			cmd.Path = c.args[0]
			cmd.Env = []string{"PATH=/usr/bin"}
			cmd.Dir = "/"
			cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != c.want {
				t.Fatalf("%v: %v, %q, want %q", c.args, err, out, c.want)
			}
		}
	}
	s := l.idle().Images[0]
	t.Logf("measured: compiling needed %d of %d bytes", s.PresentBytes, s.TotalBytes)
}

// compiler is an image with a compiler: in a guest, which has none, one that came with its disk.
func (l *lab) compiler() string {
	l.Helper()
	if guest := os.Getenv(require.GuestEnv); guest != "" {
		return "oci:" + filepath.Join(guest, "compiler") + ":tree"
	}
	require.Tool(l, "gcc")
	tree := filepath.Join(l.dir, "compiler")
	if err := os.Mkdir(tree, 0o755); err != nil {
		l.Fatal(err)
	}
	if err := compilertree.Write(l.Context(), tree); err != nil {
		l.Fatal(err)
	}
	return l.layout(tree)
}

// overlay makes a directory writable, on top of it.
func (l *lab) overlay(lower string) string {
	l.Helper()
	upper, work, merged := filepath.Join(l.dir, "upper"), filepath.Join(l.dir, "work"), l.target("merged")
	for _, dir := range []string{upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			l.Fatal(err)
		}
	}
	options := strings.Join([]string{"lowerdir=" + lower, "upperdir=" + upper, "workdir=" + work}, ",")
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		l.Fatalf("mount an overlay with %s: %v", options, err)
	}
	return merged
}
