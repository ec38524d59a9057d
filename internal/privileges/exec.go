package privileges

import (
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exec replaces this process by a program that has no capabilities and never gets any: as root, it is the owner of root's files and no more. It returns only an error.
func Exec(argv, env []string) error {
	runtime.LockOSThread()                                                   // the program has the credentials of the thread that executes it
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil { // else root has them all again
		return fmt.Errorf("give up privileges of executables: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	if err := syscall.Exec(argv[0], argv, env); err != nil { // #nosec G204 -- the caller's word
		return fmt.Errorf("execute %s: %w", argv[0], err)
	}
	return nil
}
