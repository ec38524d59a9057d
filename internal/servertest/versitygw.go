package servertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pagein/pagein/internal/require"
)

// The keys of the S3 server's only account.
const (
	S3AccessKey = "test-access"
	S3SecretKey = "test-secret-key"
	S3Region    = "eu-test-1"
)

// VersityGW is an S3 server without buckets. It checks signatures.
func VersityGW(t testing.TB) *Process {
	t.Helper()
	program, dir := require.Tool(t, "versitygw"), filepath.Join(t.TempDir(), "buckets")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return start(t, func(addr string) *exec.Cmd {
		return exec.Command(program, "--port", addr, "--access", S3AccessKey, "--secret", S3SecretKey, "--region", S3Region, "posix", dir) // #nosec G204 -- a test's own
	}, func(addr string) error { return answers("http://" + addr + "/") })
}
