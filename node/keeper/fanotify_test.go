package keeper

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/require"
)

const fanPreAccess = 0x00100000 // FAN_PRE_ACCESS, linux/fanotify.h, Linux 6.14

// The one reason for this package: a reader waits for as long as the group's only descriptor is with the keeper, and is served by whoever
// takes it back.
func TestReaderWaitsForTheSuccessor(t *testing.T) {
	require.Root(t)
	file := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(file, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	group, err := unix.FanotifyInit(unix.FAN_CLASS_PRE_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_UNLIMITED_QUEUE,
		unix.O_RDWR|unix.O_LARGEFILE|unix.O_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	fill, err := os.OpenFile(file, os.O_WRONLY, 0) // before the mark: writing through it raises no event
	if err != nil {
		t.Fatal(err)
	}
	defer fill.Close()
	err = unix.FanotifyMark(group, unix.FAN_MARK_ADD, fanPreAccess, unix.AT_FDCWD, file)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		unix.Close(group)
		require.Feature(t, false, "fanotify pre-content events (Linux 6.14 with ext4, xfs or btrfs)")
	}
	if err != nil {
		t.Fatal(err)
	}
	opt := newOptions(t)
	c := start(t, opt)
	hold(t, c, "group", group)
	c.Close()
	unix.Close(group) // what death does

	read := make(chan string, 1)
	go func() {
		f, err := os.Open(file)
		if err != nil {
			read <- err.Error()
			return
		}
		defer f.Close()
		data := make([]byte, 6) // one read, one event
		if _, err := f.ReadAt(data, 0); err != nil {
			read <- err.Error()
			return
		}
		read <- string(data)
	}()
	select {
	case got := <-read:
		t.Fatalf("the reader did not wait: %q", got)
	case <-time.After(200 * time.Millisecond):
	}
	group = take(t, opt)["group"]
	event := make([]byte, 4096)
	if err := readable(group, await.Patience); err != nil {
		t.Fatal(err)
	}
	n, err := unix.Read(group, event)
	if err != nil || n < int(unsafe.Sizeof(unix.FanotifyEventMetadata{})) {
		t.Fatalf("read %d bytes of events: %v", n, err)
	}
	meta := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&event[0]))
	if _, err := fill.WriteAt([]byte("filled"), 0); err != nil {
		t.Error(err)
	}
	answer := unix.FanotifyResponse{Fd: meta.Fd, Response: unix.FAN_ALLOW}
	if _, err := unix.Write(group, unsafe.Slice((*byte)(unsafe.Pointer(&answer)), unsafe.Sizeof(answer))); err != nil {
		t.Error(err)
	}
	unix.Close(int(meta.Fd))
	select {
	case got := <-read:
		if got != "filled" {
			t.Errorf("the reader got %q", got)
		}
	case <-time.After(await.Patience):
		t.Fatal("the reader is stuck")
	}
}
