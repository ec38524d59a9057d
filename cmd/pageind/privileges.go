package main

import (
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/privileges"
)

// needed are the capabilities that the daemon keeps, for itself and for what it starts: its mounting child, its keeper, credential helpers. docs/security.md says what each is for;
// the systemd unit has the same ones.
func needed() []int {
	return []int{
		unix.CAP_SYS_ADMIN,    // mounts, fanotify, /dev/cachefiles
		unix.CAP_DAC_OVERRIDE, // directories to mount on, and files to read, that belong to others
		unix.CAP_SYS_RESOURCE, // limits on descriptors; the keeper's safety from the OOM killer
		unix.CAP_IPC_LOCK,     // the journal and the keeper stay in memory
		// Layers that are unpacked for containerd: owners, set-ID bits, devices, file capabilities.
		unix.CAP_CHOWN, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_MKNOD, unix.CAP_SETFCAP,
	}
}

// dropPrivileges gives up what the daemon does not need. What it cannot give up, as some containers and debug builds cannot, it keeps and says so.
func dropPrivileges(log *slog.Logger) {
	unix.Umask(0o022) // whatever was inherited: nobody else writes to what is made here
	if err := privileges.Drop(needed()...); err != nil {
		log.Warn("not all privileges that are not needed could be given up", "err", err)
	}
}
