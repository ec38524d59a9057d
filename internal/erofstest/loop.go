package erofstest

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Loop makes a block device of a file until the test ends and returns its name, for kernels that cannot mount EROFS from files (before 6.12).
func Loop(t testing.TB, file string) string {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	backing, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer backing.Close()
	for range 10 {
		i, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatalf("get a loop device: %v", err)
		}
		name := fmt.Sprint("/dev/loop", i)
		device, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		config := unix.LoopConfig{Fd: uint32(backing.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_READ_ONLY}}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if errors.Is(err, unix.EBUSY) { // somebody was faster
			device.Close()
			continue
		}
		if err != nil {
			t.Fatalf("make %s of %s: %v", name, file, err)
		}
		// LIFO: the mount is taken away before, but perhaps lazily. Then the device goes with the last one that uses it.
		t.Cleanup(func() {
			if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0); err != nil {
				t.Errorf("free %s: %v", name, err)
			}
			device.Close()
		})
		return name
	}
	t.Fatal("no loop device stays free")
	return ""
}
