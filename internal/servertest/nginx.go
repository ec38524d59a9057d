package servertest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pagein/pagein/internal/require"
)

// nginxConfig serves files. Everything that nginx writes is below its prefix.
const nginxConfig = `daemon off;
pid nginx.pid;
error_log stderr warn;
user root;
worker_processes 1;
events { worker_connections 256; }
http {
  access_log /dev/stdout;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  server {
    listen %s%s;
    root %q;
    %s
  }
}
`

// Nginx serves the files of a directory. Extra is put into the server block, where the "location"s are.
func Nginx(t testing.TB, root, extra string) *Process {
	t.Helper()
	return nginx(t, root, "", extra)
}

// NginxTLS serves the files of a directory over TLS, with the certificate and key in the given PEM files.
func NginxTLS(t testing.TB, root, cert, key, extra string) *Process {
	t.Helper()
	return nginx(t, root, " ssl", fmt.Sprintf("ssl_certificate %q; ssl_certificate_key %q; %s", cert, key, extra))
}

func nginx(t testing.TB, root, listen, extra string) *Process {
	t.Helper()
	program := require.Tool(t, "nginx")
	prefix := t.TempDir()
	return start(t, func(addr string) *exec.Cmd {
		config := writeFile(t, filepath.Join(prefix, "nginx.conf"), fmt.Sprintf(nginxConfig, addr, listen, root, extra))
		return exec.Command(program, "-p", prefix, "-e", "stderr", "-c", config) // #nosec G204 -- a test's own
	}, Listens)
}
