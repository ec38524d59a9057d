package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/keytest"
)

// TestAConfigurationCanBeCheckedBeforeItIsUsed by a program that touches nothing.
func TestAConfigurationCanBeCheckedBeforeItIsUsed(t *testing.T) {
	keys := t.TempDir()
	keytest.Pair(t, keys, "right")
	private, _ := keytest.Pair(t, keys, "private")
	for _, c := range []struct {
		text string
		code int
		says string
	}{
		{"read-deadline = \"10s\"\ncache-high = \"70%\"\ncache-low = \"60%\"\n", 0, "nothing is wrong"},
		{"", 0, "config.toml"},
		{"read-deadline = 30\n", exitUsage, "line 1"},
		{"read-deadlines = \"30s\"\n", exitUsage, "does not know: read-deadlines\n"},
		{"[snapshotter]\ncache-high = \"50MB\"\nx = 1\n", exitUsage, "does not know: snapshotter.cache-high (cache-high belongs above the first [section]), snapshotter.x\n"},
		{"snapshotter.cache-high = \"1\"\n[trust]\n", exitUsage, "does not know: snapshotter.cache-high\n"},
		{"[trust]\nsnapshotter = 1\nhosts-dirs = 1\n", exitUsage, "does not know: trust.snapshotter, trust.hosts-dirs (hosts-dirs belongs above the first [section])\n"},
		{"[snapshotter.trust]\nx = 1\n", exitUsage, "does not know: snapshotter.trust\n"},
		{"read-deadline = \"soon\"\n", exitUsage, "read-deadline"},
		{"cache-high = \"10%\"\ncache-low = \"20%\"\n", exitUsage, "cache-high"},
		{"log-level = \"loud\"\n", exitUsage, "log level"},
		{"address = \"tcp://localhost\"\n", exitUsage, "tcp://localhost"},
		{"metrics-address = \"9464\"\n", exitUsage, "metrics-address"},
		{"hosts-dirs = [\"certs.d\"]\n", exitUsage, "hosts-dirs"},
		{"[proxy]\nplain-http = true\n", exitUsage, "proxy"},
		{"[trust]\nrepositories = [\"a.example.com\"]\n[[trust.policy]]\nrepositories = [\"b.example.com/**\"]\nkeys = [\"KEYS/right.pub\"]\n", 0, "nothing is wrong"},
		{"[trust]\nkeys = [\"KEYS/absent*.pub\"]\n", exitFailure, "absent*.pub\": there is no such file"},
		{"[trust]\nkeys = [\"KEYS/p*.pem\"]\n", exitFailure, private},
		{"[[trust.policy]]\n", exitUsage, "would trust everybody"},
		{"[trust]\nkeys = [\"keys/*.pub\"]\n", exitUsage, "keys/*.pub"},
		{"[trust]\ncommand = [\"policy\"]\n", exitUsage, "absolute path"},
		{"[trust]\nkeys = []\n", exitUsage, "would demand nothing"},
		{"[trust]\nrepositories = [\"a.example.com/team**\"]\n", exitUsage, "whole last element"},
	} {
		dir := t.TempDir()
		file, root := filepath.Join(dir, "config.toml"), filepath.Join(dir, "root")
		text := strings.ReplaceAll(c.text, "KEYS", keys)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
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

// TestPageindReadsTheConfigurationThatPageinReads names it in the environment, as for pagein.
func TestPageindReadsTheConfigurationThatPageinReads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "elsewhere.toml")
	if err := os.WriteFile(file, []byte("prefetch = \"all\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(want string, args ...string) {
		t.Helper()
		out, err := exec.Command(filepath.Join(programs, "pageind"), append(args, "--check-config")...).CombinedOutput()
		if !strings.Contains(string(out), want) {
			t.Errorf("%q: %v: %s, want %q", args, err, out, want)
		}
	}
	t.Setenv("PAGEIN_CONFIG", file)
	check("(" + file + ")")
	check("read configuration: open /nowhere", "--config", "/nowhere")
	t.Setenv("PAGEIN_CONFIG", "")
	if _, err := os.Stat(defaultConfig); os.IsNotExist(err) {
		check("(no configuration file)")
	}
}
