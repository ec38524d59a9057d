// Package systemdtest boots a real systemd on the kernel that the tests run on, in namespaces of its own: what units promise is tried by the one who keeps those
// promises.
//
// The machine has the host's /usr, an empty /etc, and of the host's units only the targets that every unit leans on; nothing of the host is started, changed or
// mounted. It knows nothing of pagein. What the machine mounts is seen by the host below [Machine.Path] only.
package systemdtest

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/require"
)

// boot makes the machine's file systems and becomes its first process.
//
//go:embed boot.sh
var boot string

// Config says what is in a machine.
type Config struct {
	Units    []string          // unit files of the host, by path
	Programs map[string]string // files of the host by their names below /usr/local/bin
	Disk     string            // directory of the host that is the machine's /var/lib, and survives reboots
}

// Machine is a running systemd with what it manages. It ends with its test.
type Machine struct {
	testing.TB
	cfg    Config
	dir    string // of the host, for what a boot needs
	parent string // where cgroup v2 is mounted
	cgroup string // of this boot: systemd leaves one in which no other can begin
	boots  int
	init   *exec.Cmd
	ended  chan error
	pid    int // of the machine's first process, in the host's namespace
}

// New boots a machine, or ends the test if this host cannot have one.
func New(t testing.TB, cfg Config) *Machine {
	t.Helper()
	require.Root(t)
	require.Tool(t, "unshare")
	require.Tool(t, "nsenter")
	_, err := os.Stat("/usr/lib/systemd/systemd")
	require.Feature(t, err == nil, "systemd (/usr/lib/systemd/systemd)")
	hierarchy, err := unifiedCgroups()
	require.Feature(t, err == nil, fmt.Sprintf("cgroup v2 (%v)", err))
	m := &Machine{TB: t, cfg: cfg, dir: t.TempDir(), parent: hierarchy}
	t.Cleanup(m.destroy)
	m.boot()
	return m
}

// For is the same machine for a subtest.
func (m *Machine) For(t testing.TB) *Machine {
	sub := *m
	sub.TB = t
	return &sub
}

// unifiedCgroups finds where the host has mounted cgroup v2.
func unifiedCgroups() (string, error) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	return "", errors.New("it is not mounted")
}

func (m *Machine) boot() {
	m.Helper()
	m.boots++
	m.cgroup = filepath.Join(m.parent, fmt.Sprintf("systemdtest-%d-%d", os.Getpid(), time.Now().UnixNano()))
	if err := os.Mkdir(m.cgroup, 0o755); err != nil {
		m.Fatal(err)
	}
	root := filepath.Join(m.dir, strconv.Itoa(m.boots))
	units, programs := filepath.Join(m.dir, "units"), filepath.Join(m.dir, "bin")
	for _, dir := range []string{root, units, programs} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			m.Fatal(err)
		}
	}
	for _, u := range m.cfg.Units {
		m.Install(u, filepath.Join(units, filepath.Base(u)))
	}
	if m.boots == 1 {
		for name, from := range m.cfg.Programs {
			m.Install(from, filepath.Join(programs, name))
		}
	}
	id := filepath.Join(m.dir, "boot_id")
	if err := os.WriteFile(id, fmt.Appendf(nil, "00000000-0000-4000-8000-%012d\n", m.boots), 0o444); err != nil {
		m.Fatal(err)
	}
	cgroup, err := unix.Open(m.cgroup, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		m.Fatal(err)
	}
	defer unix.Close(cgroup)
	console, err := os.OpenFile(m.console(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		m.Fatal(err)
	}
	defer console.Close()
	// The cgroup namespace begins where the process that makes it is, hence the program unshare and not flags of clone(2).
	m.init = exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount", "--cgroup", "--uts", "--ipc", "sh", "-ec", boot, "boot", root, units, programs, m.cfg.Disk, id)
	m.init.Stdout, m.init.Stderr = console, console
	m.init.SysProcAttr = &unix.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: cgroup}
	if err := m.init.Start(); err != nil {
		m.Fatal(err)
	}
	m.ended = make(chan error, 1)
	go func(c *exec.Cmd, ended chan<- error) { ended <- c.Wait() }(m.init, m.ended)
	m.await("systemd to be up", func() bool {
		m.pid = childOf(m.init.Process.Pid)
		state, _ := m.Try("systemctl", "is-system-running")
		return strings.HasPrefix(state, "running") || strings.HasPrefix(state, "degraded")
	})
}

// childOf returns the only child of a process, 0 if it has none yet.
func childOf(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	child, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return child
}

func (m *Machine) console() string { return filepath.Join(m.dir, "console") }

// Reboot shuts the machine down the way systemd does, and boots it again as another boot of the kernel.
func (m *Machine) Reboot() {
	m.Helper()
	if out, err := m.Try("systemctl", "poweroff"); err != nil {
		m.Logf("poweroff: %v %s", err, out) // the answer may come too late
	}
	select {
	case <-m.ended:
	case <-time.After(await.Patience):
		m.Fatal("the machine does not go down")
	}
	m.removeCgroup()
	m.boot()
}

// Path is where the host finds a path of the machine.
func (m *Machine) Path(path string) string { return fmt.Sprintf("/proc/%d/root%s", m.pid, path) }

// Program is where the host finds a program of the machine.
func (m *Machine) Program(name string) string { return filepath.Join(m.dir, "bin", name) }

// Install puts a copy of the file at from in place of the one at to, as package managers do: whoever runs the old one goes on with it.
func (m *Machine) Install(from, to string) {
	m.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = errors.Join(os.WriteFile(to+".new", b, 0o755), os.Rename(to+".new", to))
	}
	if err != nil {
		m.Fatal(err)
	}
}

// Try runs a command in the machine and returns what it prints.
func (m *Machine) Try(args ...string) (string, error) {
	cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(m.pid), "-m", "-p", "-C", "-u", "-i", "--"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Run is Try for what must succeed.
func (m *Machine) Run(args ...string) string {
	m.Helper()
	out, err := m.Try(args...)
	if err != nil {
		m.Fatal(err)
	}
	return out
}

// Show returns a property of a unit.
func (m *Machine) Show(unit, property string) string {
	m.Helper()
	return strings.TrimSpace(m.Run("systemctl", "show", "--value", "-p", property, unit))
}

// PID returns the main process of a unit in the host's numbers, 0 if it has none.
func (m *Machine) PID(unit string) int {
	m.Helper()
	if m.Show(unit, "MainPID") == "0" {
		return 0
	}
	inside := m.Show(unit, "MainPID")
	b, err := os.ReadFile(filepath.Join(m.Cgroup(unit), "cgroup.procs"))
	if err != nil {
		m.Fatal(err)
	}
	for _, pid := range strings.Fields(string(b)) {
		status, err := os.ReadFile("/proc/" + pid + "/status")
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(status)) {
			if f := strings.Fields(line); f[0] == "NSpid:" && f[len(f)-1] == inside {
				n, _ := strconv.Atoi(pid)
				return n
			}
		}
	}
	return 0
}

// Cgroup returns a unit's control group, as the host sees it.
func (m *Machine) Cgroup(unit string) string {
	m.Helper()
	return filepath.Join(m.cgroup, m.Show(unit, "ControlGroup"))
}

// DropIn adds to a unit's configuration, or takes that back with no content.
func (m *Machine) DropIn(unit, content string) {
	m.Helper()
	path := m.Path("/run/systemd/system/" + unit + ".d/test.conf")
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o644)
	}
	if err != nil {
		m.Fatal(err)
	}
	m.Run("systemctl", "daemon-reload")
}

func (m *Machine) await(what string, ok func() bool) {
	m.Helper()
	await.True(m, what, ok)
}

// removeCgroup ends what is left of this boot.
func (m *Machine) removeCgroup() {
	m.Helper()
	if err := os.WriteFile(filepath.Join(m.cgroup, "cgroup.kill"), []byte("1"), 0); err != nil {
		m.Error(err)
	}
	m.await("the machine's processes to end", func() bool {
		b, err := os.ReadFile(filepath.Join(m.cgroup, "cgroup.events"))
		return err == nil && strings.Contains(string(b), "populated 0")
	})
	var dirs []string
	err := filepath.WalkDir(m.cgroup, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, dir := range slices.Backward(dirs) {
		err = errors.Join(err, os.Remove(dir))
	}
	if err != nil {
		m.Error(err)
	}
}

func (m *Machine) destroy() {
	if said, err := os.ReadFile(m.console()); m.Failed() && err == nil && len(said) > 0 {
		m.Logf("the machine said:\n%s", said[max(0, len(said)-12000):])
	}
	m.removeCgroup()
}
