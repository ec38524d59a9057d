package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pagein/pagein/bench/lab"
)

// greeting is what the compiled program prints.
const greeting = "hello from a toolchain that came over the wire"

// timed prepares a cold machine, calls provide, which is to make the image's root appear at root, uses the image, and says how long
// everything took from the call on. The given programs are read beforehand, so that only the image is cold.
func (s *stage) timed(ctx context.Context, root string, warmPrograms []string, provide func() error) (timing, error) {
	scratch, err := os.MkdirTemp(s.dir, "scratch-")
	if err != nil {
		return timing{}, fmt.Errorf("make a scratch directory: %w", err)
	}
	defer os.RemoveAll(scratch)
	module := filepath.Join(scratch, "hello")
	if err := writeHello(module); err != nil {
		return timing{}, err
	}
	if err := lab.DropCaches(); err != nil {
		return timing{}, err
	}
	if err := lab.Warm(warmPrograms...); err != nil {
		return timing{}, err
	}
	before, began := s.link.Counters(), time.Now()
	if err := provide(); err != nil {
		return timing{}, err
	}
	t := timing{Provided: time.Since(began).Seconds()}

	goroot := filepath.Join(root, imageRoot)
	version, err := goTool(ctx, goroot, module, scratch, "version")
	if err != nil {
		return timing{}, err
	}
	t.Ready, t.ReadyBytes = time.Since(began).Seconds(), s.link.Counters().Down-before.Down
	if !strings.HasPrefix(version, "go version ") {
		return timing{}, fmt.Errorf("go version printed %q", version)
	}
	program := filepath.Join(scratch, "hello-program")
	if _, err := goTool(ctx, goroot, module, scratch, "build", "-o", program, "."); err != nil {
		return timing{}, err
	}
	said, err := lab.Output(lab.Command(ctx, program))
	if err != nil {
		return timing{}, err
	}
	t.Output, t.OutputBytes = time.Since(began).Seconds(), s.link.Counters().Down-before.Down
	if strings.TrimSpace(string(said)) != greeting {
		return timing{}, fmt.Errorf("the compiled program printed %q, want %q", said, greeting)
	}
	return t, nil
}

// writeHello writes a module with one small program into the new directory dir.
func writeHello(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("write the program to compile: %w", err)
	}
	files := map[string]string{
		"go.mod":  "module hello\n\ngo 1.21\n",
		"main.go": "package main\n\nimport \"fmt\"\n\nfunc main() {\n\tfmt.Println(\"" + greeting + "\")\n}\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write the program to compile: %w", err)
		}
	}
	return nil
}

// goTool runs the image's go command in module. Its caches are in scratch, all of them empty at first, and it sees none of this machine's settings.
func goTool(ctx context.Context, goroot, module, scratch string, args ...string) (string, error) {
	temp := filepath.Join(scratch, "tmp") // not scratch itself: go ignores a go.mod directly in its TMPDIR
	if err := os.MkdirAll(temp, 0o755); err != nil {
		return "", fmt.Errorf("make a temporary directory for go: %w", err)
	}
	// A shell starts it: while Go's runtime waits for an exec, its own garbage collector cannot run; were the program itself on the lazy mount, the
	// exec would wait for bytes that come over the link, which is in this process.
	cmd := lab.Command(ctx, "/bin/sh", append([]string{"-c", `exec "$0" "$@"`, filepath.Join(goroot, "bin", "go")}, args...)...)
	cmd.Dir = module
	cmd.Env = []string{
		"PATH=" + filepath.Join(goroot, "bin") + ":/usr/bin:/bin", "HOME=" + scratch, "TMPDIR=" + temp, "GOROOT=" + goroot,
		"GOPATH=" + scratch + "/gopath", "GOCACHE=" + scratch + "/cache", "GOENV=off", "GOTOOLCHAIN=local", "GOPROXY=off",
		"GOFLAGS=-mod=mod", "CGO_ENABLED=0",
	}
	out, err := lab.Output(cmd)
	return string(out), err
}
