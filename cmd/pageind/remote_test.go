package main

import (
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/oci/remote"
)

// readTOML reads a configuration file with the given content.
func readTOML(t *testing.T, content string) (config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.String("config", path, "")
	return readConfig(cli.NewContext(newApp(), set, nil))
}

// documented is the example of docs/operations.md, with kubelet's configuration in a place where there is one.
func documented(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), "```toml\n")
	example, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("there is no example")
	}
	dir := t.TempDir()
	provider := `{"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": []}`
	if err := os.WriteFile(filepath.Join(dir, "credential-provider.yaml"), []byte(provider), 0o600); err != nil {
		t.Fatal(err)
	}
	moved := strings.ReplaceAll(example, "/etc/kubernetes/", dir+"/")
	if moved == example {
		t.Fatal("the example does not name kubelet's configuration")
	}
	return moved
}

func TestDocumentedConfigurationIsAccepted(t *testing.T) {
	cfg, err := readTOML(t, documented(t))
	if err != nil {
		t.Fatal(err)
	}
	r, err := cfg.Open(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if len(cfg.HostsDirs) != 1 || cfg.Proxy == nil || len(cfg.Storage) < 3 {
		t.Errorf("read %+v", cfg.Config)
	}
}

func TestHostsAreLookedForWhereContainerdLooks(t *testing.T) {
	cfg, err := readTOML(t, "")
	if err != nil || len(cfg.HostsDirs) != 2 || cfg.HostsDirs[0] != "/etc/containerd/certs.d" {
		t.Errorf("%v, %v", cfg.HostsDirs, err)
	}
	if cfg, err = readTOML(t, "hosts-dirs = []"); err != nil || len(cfg.HostsDirs) != 0 {
		t.Errorf("%v, %v", cfg.HostsDirs, err)
	}
}

func TestRemoteConfigurationThatMakesNoSenseIsRefused(t *testing.T) {
	for _, content := range []string{
		"stall-timeout = '-5s'", "stall-timeout = 'soon'", "hosts-dirs = ['relative']", "[proxy]", "[proxy]\nurl = 'x'", "[[storage]]\nurl = 'ftp://x/'",
		"[[storage]]\nurl = 's3://x'\naccess-key = 'k'", "[[storage]]\nurl = 's3://x'\nunknown = 1", "[proxy]\nurl = 'http://127.0.0.1:1'\ncheck-interval = '0s'",
	} {
		cfg, err := readTOML(t, content)
		if err == nil {
			var r *remote.Remote
			if r, err = cfg.Open(slog.New(slog.DiscardHandler)); err == nil {
				r.Close()
			}
		}
		if err == nil {
			t.Errorf("%q is accepted", content)
		}
	}
}
