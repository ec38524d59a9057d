// Package require decides what a test does when the machine lacks something: it skips and says what is missing, or, when PAGEIN_REQUIRE
// is set (as in CI), fails, so that a promise is never silently left untested.
package require

import (
	"os"
	"os/exec"
	"testing"
)

// Tool returns the path of an external program, or ends the test.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	Feature(t, err == nil, "program "+name)
	return path
}

// Root ends the test unless it runs as root.
func Root(t testing.TB) {
	t.Helper()
	Feature(t, os.Geteuid() == 0, "root privileges")
}

// Feature ends the test unless ok: name says what is missing.
func Feature(t testing.TB, ok bool, name string) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("PAGEIN_REQUIRE") != "" {
		t.Fatalf("missing: %s (PAGEIN_REQUIRE is set)", name)
	}
	t.Skipf("missing: %s", name)
}
