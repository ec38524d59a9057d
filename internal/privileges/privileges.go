// Package privileges has a process that was started as root give up what it does not need.
//
// It knows Linux' capabilities and nothing of who gives them up. The one idea to hold in mind: whatever is given up is given up by every thread, and by all programs that the
// process will ever start.
package privileges

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lastCapability is the highest number that a set of two words can hold.
const lastCapability = 63

// Drop gives up all capabilities but those in keep (unix.CAP_...), the hope to get others by executing a file, and
// core dumps, which would hold what is secret in memory. It needs CAP_SETPCAP for what is still in the bounding set; without, it gives up the rest and reports that.
// It works in programs without cgo only.
func Drop(keep ...int) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("switch core dumps off: %w", err)
	}
	if err := everywhere(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("give up privileges of executables: %w", err)
	}
	boundErr := dropBounding(keep)
	if err := restrict(keep); err != nil {
		return errors.Join(boundErr, fmt.Errorf("give up capabilities: %w", err))
	}
	return boundErr
}

// dropBounding takes all but keep from what executed programs can have.
func dropBounding(keep []int) error {
	for c := 0; c <= lastCapability; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // the kernel knows no more
		}
		if err != nil {
			return fmt.Errorf("read the bounding set: %w", err)
		}
		if has == 0 || slices.Contains(keep, c) {
			continue
		}
		if err := everywhere(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c)); err != nil {
			return fmt.Errorf("take capability %d from the bounding set: %w", c, err)
		}
	}
	return nil
}

// restrict leaves of the capabilities that the process has those in keep.
func restrict(keep []int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	for word := range sets {
		var mask uint32
		for _, c := range keep {
			if c/32 == word {
				mask |= 1 << (c % 32)
			}
		}
		sets[word].Permitted &= mask
		sets[word].Effective = sets[word].Permitted
		sets[word].Inheritable = 0 // which empties the ambient set too
	}
	return everywhere(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0]))) // #nosec G103 -- the kernel reads them
}

// everywhere makes a system call on every thread, as credentials are a thread's.
func everywhere(trap, a, b uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(trap, a, b, 0); errno != 0 {
		return errno
	}
	return nil
}
