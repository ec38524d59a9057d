package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAConfigurationCanBeCheckedBeforeItIsUsed by a program that touches nothing.
func TestAConfigurationCanBeCheckedBeforeItIsUsed(t *testing.T) {
	for _, c := range []struct {
		text string
		code int
		says string
	}{
		{"read-deadline = \"10s\"\ncache-high = \"70%\"\ncache-low = \"60%\"\n", 0, "nothing is wrong"},
		{"read-deadline = 30\n", exitUsage, "line 1"},
		{"read-deadlines = \"30s\"\n", exitUsage, "read-deadlines"},
		{"read-deadline = \"soon\"\n", exitUsage, "read-deadline"},
		{"cache-high = \"10%\"\ncache-low = \"20%\"\n", exitUsage, "cache-high"},
		{"log-level = \"loud\"\n", exitUsage, "log level"},
		{"address = \"tcp://localhost\"\n", exitUsage, "tcp://localhost"},
		{"metrics-address = \"9464\"\n", exitUsage, "metrics-address"},
		{"hosts-dirs = [\"certs.d\"]\n", exitUsage, "hosts-dirs"},
		{"[proxy]\nplain-http = true\n", exitUsage, "proxy"},
		{"[trust]\nrepositories = [\"a.example.com\"]\n[[trust.policy]]\nrepositories = [\"b.example.com/**\"]\nkeys = [\"/etc/pagein/keys/*.pub\"]\n", 0, "nothing is wrong"},
		{"[[trust.policy]]\n", exitUsage, "would trust everybody"},
		{"[trust]\nkeys = [\"keys/*.pub\"]\n", exitUsage, "keys/*.pub"},
		{"[trust]\ncommand = [\"policy\"]\n", exitUsage, "absolute path"},
		{"[trust]\nkeys = []\n", exitUsage, "would demand nothing"},
		{"[trust]\nrepositories = [\"a.example.com/team**\"]\n", exitUsage, "whole last element"},
	} {
		dir := t.TempDir()
		file, root := filepath.Join(dir, "config.toml"), filepath.Join(dir, "root")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(filepath.Join(programs, "pageind"), "--check-config", "--supervise", "--config", file, "--root", root, "--run", root)
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.says) {
			t.Errorf("%q: status %d, %v: %s", c.text, code, err, out)
		}
		if _, err := os.Lstat(root); err == nil {
			t.Errorf("%q: the store was made", c.text)
		}
	}
}
