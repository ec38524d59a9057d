package servertest

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pagein/pagein/internal/require"
)

// Tinyproxy is a forward proxy: for http URLs and for tunnels.
func Tinyproxy(t testing.TB) *Process {
	t.Helper()
	program, dir := require.Tool(t, "tinyproxy"), t.TempDir()
	return start(t, func(addr string) *exec.Cmd {
		host, port, _ := net.SplitHostPort(addr)
		config := writeFile(t, filepath.Join(dir, "tinyproxy.conf"), fmt.Sprintf("Listen %s\nPort %s\nMaxClients 50\nLogLevel Connect\n", host, port))
		return exec.Command(program, "-d", "-c", config) // #nosec G204 -- a test's own
	}, Listens)
}
