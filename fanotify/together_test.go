package fanotify

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
)

// TestEventsThatComeTogetherAreAllHeard has two reads end while nobody listens: the kernel then tells of both in one breath.
func TestEventsThatComeTogetherAreAllHeard(t *testing.T) {
	root, mnt, h := environment(t)
	tr := newTree(t, t.TempDir(), 4096, 1, 4096, 1, 4096, 1, 1<<20)
	tr.track = true
	d, spec := start(t, tr, root, h, nil)
	mount(t, spec, mnt)
	id := tr.maps[0].ID()
	d.stop()
	d, _ = start(t, tr, root, h, h.Take(t))
	before := openOn(t, id)
	d.stop()

	group := h.Held()[groupName(groupOf(id))]
	var readers []*exec.Cmd
	var asked []event // by all, before one of them is answered
	for _, name := range []string{"f0", "f2", "f4"} {
		c := exec.CommandContext(t.Context(), "cat", filepath.Join(mnt, name))
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		readers = append(readers, c)
		asked = append(asked, next(t, group))
	}
	for _, ev := range asked {
		if err := errors.Join(answer(group, ev.fd, unix.FAN_ALLOW), unix.Close(int(ev.fd))); err != nil { // with zeros, which do not matter here
			t.Fatal(err)
		}
	}
	for _, c := range readers {
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
	}

	d, _ = start(t, tr, root, h, h.Take(t))
	defer d.stop()
	if got, err := exec.CommandContext(t.Context(), "head", "-c1", filepath.Join(mnt, "f6")).Output(); err != nil || string(got) != string(tr.files["f6"][:1]) { // its events come after those
		t.Errorf("read %q, %v", got, err)
	}
	await.True(t, "the events' descriptors are closed", func() bool { return openOn(t, id) <= before })
	for _, g := range d.groups {
		if g.number != groupOf(id) {
			continue
		}
		await.True(t, "no read counts as under way any more", func() bool {
			g.journal.reads.mu.Lock()
			defer g.journal.reads.mu.Unlock()
			return len(g.journal.reads.byThread) == 0
		})
	}
}

// next reads an event of a group that nobody else reads.
func next(t *testing.T, group int) event {
	t.Helper()
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(group), Events: unix.POLLIN}}, -1); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, slotEvent)
	n, err := unix.Read(group, b)
	if err != nil {
		t.Fatal(err)
	}
	ev, err := parseEvent(b[:n])
	if err != nil || ev.over {
		t.Fatalf("%+v, %v", ev, err)
	}
	return ev
}

// openOn counts this process' descriptors of a blob's file.
func openOn(t *testing.T, id string) (n int) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasSuffix(target, "/"+id) {
			n++
		}
	}
	return n
}
