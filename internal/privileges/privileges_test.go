package privileges

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
)

// TestNothingIsLeftButWhatIsKept has another process give up what it has, and looks at all of its threads and at a program that it starts.
func TestNothingIsLeftButWhatIsKept(t *testing.T) {
	require.Root(t)
	program := filepath.Join(t.TempDir(), "drop")
	build := exec.Command(require.Tool(t, "go"), "build", "-o", program, "./testdata/drop")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(program)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	want := fmt.Sprintf("%016x", 1<<unix.CAP_SYS_ADMIN|1<<unix.CAP_IPC_LOCK)
	seen := make(map[string]int)
	for line := range strings.Lines(said.String()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		seen[name]++
		expected, known := map[string]string{
			"CapInh": strings.Repeat("0", 16), "CapAmb": strings.Repeat("0", 16), "CapPrm": want, "CapEff": want, "CapBnd": want,
			"NoNewPrivs": "1", "dumpable": "0",
		}[name]
		if known && value != expected {
			t.Errorf("%s is %s, want %s", name, value, expected)
		}
	}
	if seen["CapBnd"] < 4 || seen["dumpable"] != 1 {
		t.Errorf("only %v were looked at", seen)
	}
}
