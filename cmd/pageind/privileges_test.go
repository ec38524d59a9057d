package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/oci/remote"
)

// TestTheDaemonKeepsOnlyWhatItNeeds looks at the capabilities of each thread of daemon and keeper while an image is mounted and read. The keeper's bounding set is what
// the daemon could take from its own.
func TestTheDaemonKeepsOnlyWhatItNeeds(t *testing.T) {
	l := newLab(t)
	tree := l.bigFiles("a")
	l.start()
	l.readAll(tree, l.mount(l.layout(tree), "a"))
	var all uint64
	for _, c := range needed() {
		all |= 1 << c
	}
	kept := map[string]uint64{"pageind": all, "pagein-keeper": 1<<unix.CAP_IPC_LOCK | 1<<unix.CAP_SYS_RESOURCE}
	for what, pid := range map[string]int{"pageind": l.daemon.Pid, "pagein-keeper": l.keepers()[0]} {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, task.Name()))
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
				continue
			} else if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(status)) {
				var has uint64
				name, value, _ := strings.Cut(line, ":")
				may := kept[what]
				switch name {
				case "CapBnd":
					may = all
					fallthrough
				case "CapPrm", "CapEff", "CapInh", "CapAmb":
					if _, err := fmt.Sscanf(value, "%x", &has); err != nil || has&^may != 0 {
						t.Errorf("%s: %s is %#x (%v), only %#x is needed", what, name, has, err, may)
					}
				case "NoNewPrivs":
					if strings.TrimSpace(value) != "1" {
						t.Errorf("%s: NoNewPrivs is %s", what, value)
					}
				}
			}
		}
	}
}

// TestTheUnitGrantsWhatIsNeeded compares the systemd unit with what the daemon keeps; it needs one more to give up the rest.
func TestTheUnitGrantsWhatIsNeeded(t *testing.T) {
	unit, err := os.ReadFile("../../dist/systemd/pageind.service")
	if os.Getenv(require.GuestEnv) != "" && err != nil {
		t.Skip("the guests have no units")
	} else if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(unit), "\nCapabilityBoundingSet=")
	line, _, _ := strings.Cut(rest, "\n")
	names := map[string]int{
		"CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "CAP_DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "CAP_SYS_RESOURCE": unix.CAP_SYS_RESOURCE, "CAP_IPC_LOCK": unix.CAP_IPC_LOCK,
		"CAP_CHOWN": unix.CAP_CHOWN, "CAP_FOWNER": unix.CAP_FOWNER, "CAP_FSETID": unix.CAP_FSETID, "CAP_MKNOD": unix.CAP_MKNOD, "CAP_SETFCAP": unix.CAP_SETFCAP, "CAP_SETPCAP": unix.CAP_SETPCAP,
	}
	var granted []int
	for name := range strings.FieldsSeq(line) {
		c, known := names[name]
		if !known {
			t.Errorf("the unit grants %s", name)
		}
		granted = append(granted, c)
	}
	want := append(needed(), unix.CAP_SETPCAP)
	slices.Sort(granted)
	slices.Sort(want)
	if !found || !slices.Equal(granted, want) {
		t.Errorf("the unit grants %v, needed are %v", granted, want)
	}
}

// TestKeysThatEverybodyCanReadAreWarnedOf looks at what is said of configuration files.
func TestKeysThatEverybodyCanReadAreWarnedOf(t *testing.T) {
	key := remote.Config{Storage: []remote.Storage{{URL: "s3://bucket", SecretKey: secret}}}
	for _, c := range []struct {
		name   string
		remote remote.Config
		mode   os.FileMode
		want   bool
	}{
		{"a key that all can read", key, 0o644, true},
		{"a key that root can read", key, 0o600, false},
		{"a key that a group can read", key, 0o640, false},
		{"a header", remote.Config{Proxy: &remote.Proxy{URL: "http://peer", Headers: map[string]string{"X-Token": secret}}}, 0o644, true},
		{"a password in a URL", remote.Config{Proxy: &remote.Proxy{URL: "http://me:" + secret + "@peer"}}, 0o644, true},
		{"a signed URL", remote.Config{Storage: []remote.Storage{{URL: "https://host/?sig=" + secret}}}, 0o644, true},
		{"no key", remote.Config{Proxy: &remote.Proxy{URL: "http://peer"}, Storage: []remote.Storage{{URL: "https://host/", Endpoint: "https://host"}}}, 0o644, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config.toml")
			if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chmod(file, c.mode)); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			config{Config: c.remote, file: file}.warnOfReaders(slog.New(slog.NewTextHandler(&said, nil)))
			if warned := said.Len() > 0; warned != c.want || strings.Contains(said.String(), secret) {
				t.Errorf("said %q, want a warning: %v", &said, c.want)
			}
		})
	}
}
