package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/node/control"
)

// TestMountsComeBackAfterAReboot shuts a machine down, as systemd does, and boots it while the registry is away.
func TestMountsComeBackAfterAReboot(t *testing.T) {
	m := newManaged(t)
	server := newOutage(t)
	push := func(tree string) string {
		ref := server.host() + "/app:" + strings.ToLower(filepath.Base(tree))
		m.Run("pagein", "convert", "dir:/var/lib/"+filepath.Base(tree), ref)
		return ref
	}
	trees := m.lab.sources(3, 12) // more than is read ahead
	impatient, patient, gone := m.mount(trees[0], push, "--deadline", "500ms"), m.mount(trees[1], push, "--deadline", "wait"), m.mount(trees[2], push)
	for _, i := range []mounted{impatient, patient} {
		i.check(t, "0")
	}
	m.Run("pagein", "umount", gone.target)

	server.out.Store(true)
	m.Reboot()
	m.up()
	for _, i := range []*mounted{&impatient, &patient} {
		i.path = m.Path(i.target)
		i.check(t, "0")
	}
	if left, err := os.ReadDir(m.Path(gone.target)); err != nil || len(left) != 0 {
		t.Errorf("what had been unmounted shows %d files, %v", len(left), err)
	}
	if _, err := os.ReadFile(filepath.Join(impatient.path, "11")); !errors.Is(err, unix.EIO) {
		t.Errorf("what is not here ends with %v", err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := os.ReadFile(filepath.Join(patient.path, "11"))
		waits <- err
	}()
	select {
	case err := <-waits:
		t.Errorf("waiting for what is not here ended with %v", err)
	case <-time.After(time.Second):
	}
	server.out.Store(false)
	if err := <-waits; err != nil {
		t.Error(err)
	}
	for _, i := range []mounted{impatient, patient} {
		keepReading(i.tree, i.path).end(t)
		m.Run("pagein", "umount", i.target)
	}
	m.Reboot()
	m.up()
	if s := m.status(); len(s.Images) != 0 {
		t.Errorf("what had been unmounted came back: %+v", s.Images)
	}
	if t.Failed() {
		t.Logf("pageind said:\n%s\nkeeper said:\n%s", m.said("pageind.service"), m.said("pagein-keeper.service"))
	}
}

// TestWhatCannotBeMountedAgainIsToldAndTriedAgain has the directory of a mount missing after a restart of the machine.
func TestWhatCannotBeMountedAgainIsToldAndTriedAgain(t *testing.T) {
	beside(t)
	l := newLab(t)
	tree := l.bigFiles("f")
	l.start()
	ref := l.layout(tree)
	target, moved := l.mount(ref, "a"), filepath.Join(l.dir, "moved")
	l.pretendReboot(target)
	if err := os.Rename(target, moved); err != nil {
		t.Fatal(err)
	}
	told := func() {
		t.Helper()
		l.waitFor("the image to be lost", func() bool { return len(l.status().Images) == 1 })
		if i := l.status().Images[0]; i.State != control.Lost || !slices.Equal(i.Targets, []string{target}) || !strings.Contains(i.Problem, target) {
			t.Fatalf("status shows %+v", i)
		}
		if said := l.pagein("status"); !strings.Contains(said, "not mounted again: ") {
			t.Errorf("pagein status says\n%s", said)
		}
	}
	l.start()
	told()
	l.stop(unix.SIGKILL)
	l.start() // the next daemon knows of it too
	told()
	if err := os.Rename(moved, target); err != nil {
		t.Fatal(err)
	}
	l.waitFor("the image to be mounted again", func() bool { return l.status().Images[0].State != control.Lost })
	l.readAll(tree, target)

	l.pretendReboot(target)
	if err := os.Rename(target, moved); err != nil {
		t.Fatal(err)
	}
	l.start()
	told()
	l.pagein("umount", target)
	if s := l.status(); len(s.Images) != 0 {
		t.Errorf("after umount status shows %+v", s.Images)
	}
}

// pretendReboot leaves all as a restart of the machine does, but for the kernel.
func (l *lab) pretendReboot(targets ...string) {
	l.Helper()
	l.stop(unix.SIGTERM)
	for _, target := range targets {
		if err := unix.Unmount(target, 0); err != nil {
			l.Fatal(err)
		}
	}
	l.waitFor("the keeper to end", func() bool { return len(l.keepers()) == 0 })
	table := filepath.Join(l.root, "state", "mounts.json")
	b, err := os.ReadFile(table)
	if err != nil {
		l.Fatal(err)
	}
	var state map[string]any
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&state); err != nil {
		l.Fatal(err)
	}
	state["Boot"] = "another"
	if b, err = json.Marshal(state); err != nil {
		l.Fatal(err)
	}
	if err := os.WriteFile(table, b, 0o600); err != nil {
		l.Fatal(err)
	}
}

// check compares one file.
func (i mounted) check(t *testing.T, name string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join(i.tree, name))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(i.path, name)); err != nil || string(got) != string(want) {
		t.Errorf("%s on %s is wrong, or %v", name, i.target, err)
	}
}
