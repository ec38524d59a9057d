package bpf_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/require"
)

// TestGeneratedProgramsAreThoseOfTheirSource compiles the probes once more, with the compiler that go:generate names.
func TestGeneratedProgramsAreThoseOfTheirSource(t *testing.T) {
	if os.Getenv(require.GuestEnv) != "" {
		t.Skip("there is no compiler in the guests")
	}
	for _, tool := range []string{"clang-19", "llvm-strip-19", "go"} {
		require.Tool(t, tool)
	}
	_, err := os.Stat("/usr/include/bpf/bpf_helpers.h")
	require.Feature(t, err == nil, "libbpf-dev")
	dir := filepath.Join(t.TempDir(), "bpf") // the directory's name becomes that of the package
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"touch.bpf.c", "kernel.h", "request.h", "generate.go"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// In a module of its own the generator would not be found: it is built here, and the directives run there.
	generator := filepath.Join(t.TempDir(), "bpf2go")
	run(t, ".", "go", "build", "-o", generator, "github.com/cilium/ebpf/cmd/bpf2go")
	directives, err := os.ReadFile("generate.go")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(directives)) {
		if args, ok := strings.CutPrefix(line, "//go:generate go run github.com/cilium/ebpf/cmd/bpf2go "); ok {
			run(t, dir, generator, strings.Fields(args)...)
		}
	}
	generated, err := filepath.Glob(filepath.Join(dir, "*_bpfel.*"))
	if err != nil || len(generated) != 8 {
		t.Fatalf("%d files were generated, %v", len(generated), err)
	}
	for _, path := range generated {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Base(path)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what its source gives (go generate ./bpf), %v", filepath.Base(path), err)
		}
	}
}

func run(t *testing.T, dir, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOPACKAGE=bpf")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}
