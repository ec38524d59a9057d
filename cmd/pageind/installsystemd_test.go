package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/require"
)

// containerdUnit is what containerd's own has in it that counts here.
const containerdUnit = `[Service]
Type=notify
ExecStart=/usr/local/bin/containerd
Delegate=yes
KillMode=process
`

// TestSystemdRestartsBothForWhatIsInstalled has a real systemd restart pageind and containerd, each of which reads its configuration then: an image is pulled lazily, and after the way back the snapshotter is not known any more.
func TestSystemdRestartsBothForWhatIsInstalled(t *testing.T) {
	unit, programs := filepath.Join(t.TempDir(), "containerd.service"), map[string]string{}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		programs[name] = require.Tool(t, name)
	}
	if err := os.WriteFile(unit, []byte(containerdUnit), 0o600); err != nil {
		t.Fatal(err)
	}
	m := newManagedBeside(t, []string{unit, "../../dist/systemd/pagein-check.service", "../../dist/systemd/pagein-check.timer"}, programs)
	m.Run("systemctl", "start", "containerd")
	m.Run("systemctl", "enable", "--now", "pagein-check.timer")
	units := []string{"pageind.service", "containerd.service"}
	restarted := func(args ...string) (said string) {
		t.Helper()
		var before []int
		for _, u := range units {
			before = append(before, m.PID(u))
		}
		said = m.Run(append([]string{"pagein"}, args...)...)
		for i, u := range units {
			if now := m.PID(u); now == before[i] || now == 0 {
				t.Errorf("process %d of %s is now %d", before[i], u, now)
			}
		}
		return said
	}
	if said := restarted("install", "containerd", "--apply", "--restart", "--check"); !strings.Contains(said, "was pulled without its layers, and can be read") {
		t.Errorf("it says %s", said)
	}
	config, err := os.ReadFile(m.Path("/etc/containerd/config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	const elsewhere = "[plugins.\"io.containerd.server.v1.grpc\"]\naddress = \"/run/elsewhere.sock\"\n"
	if err := os.WriteFile(m.Path("/etc/containerd/config.toml"), append(config, elsewhere...), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := m.Try("pagein", "install", "containerd", "--check"); err == nil || !strings.Contains(err.Error(), "connect to containerd at /run/elsewhere.sock") {
		t.Errorf("another containerd than the configured one is checked: %s, %v", said, err)
	}
	if err := os.WriteFile(m.Path("/etc/containerd/config.toml"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	said := restarted("uninstall", "containerd", "--apply", "--restart")
	if _, err := os.Stat(m.Path("/etc/containerd/config.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the configuration that was made: %v", err)
	}
	if _, err := m.Try("ctr", "snapshots", "--snapshotter", "pagein", "ls"); err == nil || !strings.Contains(err.Error(), "snapshotter not loaded: pagein") {
		t.Errorf("after the way back containerd says %v", err)
	}
	_, rid, told := strings.Cut(said, "To be rid of that, too, once \"pagein status\" shows no images: ")
	if !told {
		t.Fatalf("it does not say what to do with what stays: %s", said)
	}
	// The machine has no checkout.
	m.Run("sh", "-ec", strings.Replace(rid, `make uninstall (where "make install" was done)`, "rm /usr/local/lib/systemd/system/page*", 1))
	if enabled, err := os.ReadDir(m.Path("/etc/systemd/system/timers.target.wants")); err == nil && len(enabled) > 0 || m.Show("pagein-check.timer", "ActiveState") != "inactive" {
		t.Errorf("pagein-check.timer is left: enabled are %v", enabled)
	}
	for _, u := range []string{"pageind.service", "pagein-keeper.service"} {
		if pid := m.PID(u); pid != 0 {
			t.Errorf("process %d of %s is left", pid, u)
		}
	}
	for _, dir := range []string{"/etc/pagein", "/run/pagein", "/var/lib/pagein"} {
		if _, err := os.Stat(m.Path(dir)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
}
