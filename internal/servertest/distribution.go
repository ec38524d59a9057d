package servertest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pagein/pagein/internal/require"
)

const distributionConfig = `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {addr: %q, relativeurls: true}
%s`

// Distribution is distribution's registry. With a token server it lets in who has a token of that server.
func Distribution(t testing.TB, tokens *TokenServer) *Process {
	t.Helper()
	dir, auth := t.TempDir(), ""
	if tokens != nil {
		auth = fmt.Sprintf("auth: {token: {realm: %q, service: %q, issuer: %q, rootcertbundle: %q}}\n",
			tokens.URL, tokenService, tokenIssuer, writeFile(t, filepath.Join(dir, "tokens.pem"), tokens.certificate))
	}
	return distribution(t, dir, filepath.Join(dir, "data"), auth)
}

// DistributionAt is a registry at an address that nobody else takes. Its content, in a directory, outlives it.
func DistributionAt(t testing.TB, addr, data string) *Process {
	t.Helper()
	p := startAt(t, addr, distributionCommand(t, t.TempDir(), data, ""), distributionAnswers)
	p.data = data
	return p
}

// Guarded is another registry with the same content, which it lets only those see who have a password.
func Guarded(t testing.TB, open *Process, passwords *Passwords) *Process {
	t.Helper()
	dir := t.TempDir()
	return distribution(t, dir, open.data, fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", passwords.path))
}

func distribution(t testing.TB, dir, data, auth string) *Process {
	t.Helper()
	p := start(t, distributionCommand(t, dir, data, auth), distributionAnswers)
	p.data = data
	return p
}

func distributionCommand(t testing.TB, dir, data, auth string) func(addr string) *exec.Cmd {
	t.Helper()
	program := require.Tool(t, "registry")
	return func(addr string) *exec.Cmd {
		config := writeFile(t, filepath.Join(dir, "registry.yml"), fmt.Sprintf(distributionConfig, data, addr, auth))
		cmd := exec.Command(program, "serve", config) // #nosec G204 -- a test's own
		cmd.Env = append(cmd.Environ(), "OTEL_TRACES_EXPORTER=none")
		return cmd
	}
}

func distributionAnswers(addr string) error { return answers("http://" + addr + "/v2/") }
