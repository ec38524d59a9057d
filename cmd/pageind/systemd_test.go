package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	"github.com/pagein/pagein/internal/systemdtest"
	"github.com/pagein/pagein/internal/treetest"
	"github.com/pagein/pagein/node/control"
)

// managed is a machine whose systemd runs the units of dist/systemd.
type managed struct {
	*systemdtest.Machine
	lab *lab // only its directory, which is the machine's disk, and what it puts there
}

func newManaged(t *testing.T) *managed {
	t.Helper()
	return newManagedBeside(t, nil, nil)
}

// newManagedBeside has more units, by the paths of their files, and more programs.
func newManagedBeside(t *testing.T, units []string, more map[string]string) *managed {
	t.Helper()
	if os.Getenv(require.GuestEnv) != "" {
		t.Skip("the guests have no systemd")
	}
	require.Root(t)
	disk := t.TempDir()
	units = append(slices.Clip(units), "../../dist/systemd/pageind.service", "../../dist/systemd/pagein-keeper.service")
	cfg := systemdtest.Config{Disk: disk, Units: units, Programs: map[string]string{}}
	maps.Copy(cfg.Programs, more)
	for _, p := range []string{"pagein", "pageind", "pagein-keeper"} {
		cfg.Programs[p] = filepath.Join(programs, p)
	}
	m := &managed{Machine: systemdtest.New(t, cfg), lab: &lab{T: t, dir: disk}}
	m.up()
	return m
}

// mounted is an image of the machine.
type mounted struct {
	tree   string // what it was made from
	target string // in the machine
	path   string // of the same, for the host
}

// mount has an image made of a tree by ref, which returns its reference, and mounts it.
func (m *managed) mount(tree string, ref func(tree string) string, options ...string) mounted {
	m.Helper()
	name := strings.Replace(filepath.Base(tree), "source", "mnt", 1)
	if err := os.Mkdir(filepath.Join(m.lab.dir, name), 0o755); err != nil {
		m.Fatal(err)
	}
	target := "/var/lib/" + name
	m.Run(append(append([]string{"pagein", "mount"}, options...), ref(tree), target)...)
	return mounted{tree, target, m.Path(target)}
}

// layout converts a tree into a layout on the machine's disk.
func (m *managed) layout(tree string) string {
	m.Helper()
	m.Run("pagein", "convert", "dir:/var/lib/"+filepath.Base(tree), "oci:/var/lib/layout:"+strings.ToLower(filepath.Base(tree)))
	return "oci:/var/lib/layout:" + strings.ToLower(filepath.Base(tree))
}

// in is the same machine for a subtest.
func (m *managed) in(t *testing.T) *managed {
	sub := *m
	sub.Machine, sub.lab = m.For(t), &lab{T: t, dir: m.lab.dir}
	return &sub
}

// up starts the units, whose messages go to the console.
func (m *managed) up() {
	m.Helper()
	m.logTo("pageind.service", "")
	m.logTo("pagein-keeper.service", "")
	m.Run("systemctl", "start", "pageind.service")
}

// logTo has a unit log to the disk, for want of a journal, and adds settings.
func (m *managed) logTo(unit, more string) {
	m.Helper()
	section := "[Service]\nStandardError=append:/var/lib/" + unit + ".log\n"
	m.DropIn(unit, section+more)
}

func (m *managed) said(unit string) string {
	b, err := os.ReadFile(filepath.Join(m.lab.dir, unit+".log"))
	if err != nil {
		m.Error(err)
	}
	return string(b)
}

func (m *managed) status() (s control.Status) {
	m.Helper()
	if err := json.Unmarshal([]byte(m.Run("pagein", "status", "--json")), &s); err != nil {
		m.Fatal(err)
	}
	return s
}

// reading is readers that verify all they read, round after round.
type reading struct {
	stop   chan struct{}
	result chan []string
}

// keepReading has 16 readers compare, cold, until they are ended.
func keepReading(want, got string) *reading {
	r := &reading{stop: make(chan struct{}), result: make(chan []string, 1)}
	go func() {
		var all []string
		for round := int64(1); ; round++ {
			diffs, err := treetest.Diff(want, got, treetest.Options{Readers: 16, Shuffle: round, IgnoreRoot: true})
			if err != nil {
				diffs = append(diffs, err.Error())
			}
			all = append(all, diffs...)
			select {
			case <-r.stop:
				r.result <- all
				return
			default:
			}
		}
	}()
	return r
}

// end waits for the round to end and returns what was wrong.
func (r *reading) end(t testing.TB) {
	t.Helper()
	close(r.stop)
	select {
	case diffs := <-r.result:
		for _, d := range diffs[:min(len(diffs), 20)] {
			t.Error(d)
		}
	case <-time.After(await.Patience):
		t.Error("a reader is stuck")
	}
}

// TestWhatSystemdDoesToTheDaemonHarmsNoReader has a real systemd do what it does to services, each time under 16 readers that verify what they read: none of them ever
// sees a byte that is not the image's, be it one of a page of zeros.
func TestWhatSystemdDoesToTheDaemonHarmsNoReader(t *testing.T) {
	m := newManaged(t)
	if inside, outside := namespaceOf(t, m.PID("pageind.service")), namespaceOf(t, m.PID("pagein-keeper.service")); inside != outside {
		t.Errorf("the daemon has a mount namespace of its own, %s, not %s: nobody would see what it mounts", inside, outside)
	}
	cases := []struct {
		name string
		do   func(m *managed)
	}{
		{"restart", func(m *managed) { m.Run("systemctl", "restart", "pageind") }},
		{"stop and start", (*managed).stopAndStart},
		{"kill of the whole control group", (*managed).killGroup},
		{"crash loop until the unit fails", (*managed).crashLoop},
		{"upgrade of the package", (*managed).upgrade},
		{"stop of the keeper", (*managed).stopKeeper},
		{"end of the keeper", (*managed).killKeeper},
		{"end of keeper and daemon at once", (*managed).killBoth},
	}
	trees := m.lab.sources(2*len(cases), 4)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := m.in(t)
			during, after := m.mount(trees[2*i], m.layout), m.mount(trees[2*i+1], m.layout)
			reads := keepReading(during.tree, during.path)
			c.do(m)
			reads.end(t)
			// Nothing of the other image was here when it happened.
			keepReading(after.tree, after.path).end(t)
			if s := m.status(); len(s.Images) != 2 {
				t.Errorf("mounted is %+v", s.Images)
			}
			m.Run("pagein", "umount", during.target)
			m.Run("pagein", "umount", after.target)
		})
		if t.Failed() {
			t.Fatalf("pageind said:\n%s\nkeeper said:\n%s", m.said("pageind.service"), m.said("pagein-keeper.service"))
		}
	}
	// What systemd holds in the end is the watch on mounts.
	m.waitUntil("nothing to be held for nothing", func() bool { return m.Show("pageind.service", "NFileDescriptorStore") == "1" })
}

func namespaceOf(t testing.TB, pid int) string {
	t.Helper()
	ns, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func (m *managed) waitUntil(what string, ok func() bool) {
	m.Helper()
	m.lab.waitFor(what, ok)
}

func (m *managed) stopAndStart() {
	keeper := m.PID("pagein-keeper.service")
	m.Run("systemctl", "stop", "pageind")
	if now := m.PID("pagein-keeper.service"); now != keeper {
		m.Errorf("the keeper was %d and is %d", keeper, now)
	}
	time.Sleep(300 * time.Millisecond) // readers get to where they wait
	m.Run("systemctl", "start", "pageind")
}

func (m *managed) killGroup() {
	before := m.PID("pageind.service")
	if err := os.WriteFile(filepath.Join(m.Cgroup("pageind.service"), "cgroup.kill"), []byte("1"), 0); err != nil {
		m.Fatal(err)
	}
	m.waitUntil("another daemon", func() bool {
		return m.Show("pageind.service", "ActiveState") == "active" && m.PID("pageind.service") != before && m.PID("pageind.service") != 0
	})
}

// crashLoop replaces the daemon by a program that fails.
func (m *managed) crashLoop() {
	bad := filepath.Join(m.lab.dir, "bad")
	if err := os.WriteFile(bad, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		m.Fatal(err)
	}
	m.DropIn("pageind.service", "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=4\n[Service]\nStandardError=append:/var/lib/pageind.service.log\n")
	m.Install(bad, m.Program("pageind"))
	if err := unix.Kill(m.PID("pageind.service"), unix.SIGKILL); err != nil {
		m.Fatal(err)
	}
	m.waitUntil("the unit to fail", func() bool { return m.Show("pageind.service", "ActiveState") == "failed" })
	time.Sleep(300 * time.Millisecond)
	m.Install(filepath.Join(programs, "pageind"), m.Program("pageind"))
	m.logTo("pageind.service", "")
	m.Run("systemctl", "reset-failed", "pageind")
	m.Run("systemctl", "start", "pageind")
}

// upgrade does what packages do: stop, replace, start.
func (m *managed) upgrade() {
	m.Run("systemctl", "stop", "pageind")
	m.Install(otherVersion(m), m.Program("pageind"))
	m.Run("systemctl", "daemon-reload")
	m.Run("systemctl", "start", "pageind")
	if v := m.status().Version; v != otherVersionName {
		m.Errorf("version %q serves, not %q", v, otherVersionName)
	}
}

func (m *managed) stopKeeper() {
	if _, err := m.Try("systemctl", "stop", "pagein-keeper"); err == nil || !strings.Contains(err.Error(), "refused") {
		m.Errorf("stopping the keeper is answered with %v", err)
	}
}

func (m *managed) killKeeper() {
	before := m.PID("pagein-keeper.service")
	if err := unix.Kill(before, unix.SIGKILL); err != nil {
		m.Fatal(err)
	}
	m.waitUntil("another keeper", func() bool { return strings.Contains(m.said("pageind.service"), "there is a keeper again") })
	if now := m.PID("pagein-keeper.service"); now == before || now == 0 {
		m.Errorf("the keeper is %d now", now)
	}
}

// killBoth leaves systemd as the only holder.
func (m *managed) killBoth() {
	m.waitUntil("systemd to hold as much as the keeper", func() bool {
		n, err := strconv.Atoi(m.Show("pageind.service", "NFileDescriptorStore"))
		return err == nil && n > 3
	})
	daemon, keeper := m.PID("pageind.service"), m.PID("pagein-keeper.service")
	err := errors.Join(unix.Kill(daemon, unix.SIGSTOP), unix.Kill(keeper, unix.SIGKILL), unix.Kill(daemon, unix.SIGKILL))
	if err != nil {
		m.Fatal(err)
	}
	m.waitUntil("another daemon", func() bool {
		pid := m.PID("pageind.service")
		return m.Show("pageind.service", "ActiveState") == "active" && pid != daemon && pid != 0
	})
}

// otherVersionName is the version of the program that otherVersion builds.
const otherVersionName = "v99-upgrade-test"

// otherVersion builds another pageind.
func otherVersion(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pageind-other")
	build := exec.Command(require.Tool(t, "go"), "build", "-ldflags=-X main.version="+otherVersionName, "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("build another version: %w: %s", err, out))
	}
	return path
}
