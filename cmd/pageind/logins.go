package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/oci/registry"
)

const (
	// loginsName is the name under which the keeper holds what images were pulled with.
	loginsName = "logins"
	// maxLogins bounds that, in bytes.
	maxLogins = 64 << 20
)

// holder is the part of the keeper that is needed here.
type holder interface {
	Hold(name string, fd int) error
	Release(name string) error
}

// logins has the credentials of pulls outlive the daemon: in a memory file that the keeper holds. They are never on a disk, and gone with the machine's power.
type logins struct {
	holder holder
	log    *slog.Logger
	file   *os.File // what the keeper holds a duplicate of; nil for nothing
}

// recallLogins gives back to pulled what an earlier daemon left with the keeper, which it takes out of adopted, and keeps what comes. If that is not wanted, it is forgotten.
func recallLogins(adopted map[string]int, wanted bool, pulled *registry.Pulled, h holder, log *slog.Logger) {
	l := &logins{holder: h, log: log}
	if fd, held := adopted[loginsName]; held {
		delete(adopted, loginsName)
		l.file = os.NewFile(uintptr(fd), loginsName)
		if wanted {
			l.recall(pulled)
		} else if err := errors.Join(h.Release(loginsName), l.file.Close()); err != nil {
			log.Warn("credentials of pulls stay with the keeper", "err", err)
		}
	}
	if wanted {
		pulled.Keep(l.keep)
	}
}

func (l *logins) recall(pulled *registry.Pulled) {
	b, err := io.ReadAll(io.NewSectionReader(l.file, 0, maxLogins))
	if err == nil {
		err = pulled.Recall(b)
	}
	if err != nil {
		l.log.Warn("credentials of earlier pulls are lost", "err", err)
	}
}

// keep replaces what the keeper holds: by another file, as this process may be killed while it writes.
func (l *logins) keep(state []byte) {
	if err := l.replace(state); err != nil {
		l.log.Warn("credentials of pulls do not outlive this process", "err", err)
	}
}

func (l *logins) replace(state []byte) error {
	if len(state) > maxLogins {
		return fmt.Errorf("they have %d bytes, at most %d are kept", len(state), maxLogins)
	}
	fd, err := unix.MemfdCreate("pagein-logins", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make a memory file: %w", err)
	}
	file := os.NewFile(uintptr(fd), loginsName)
	if _, err := file.Write(state); err != nil {
		return errors.Join(fmt.Errorf("write a memory file: %w", err), file.Close())
	}
	if err := l.holder.Hold(loginsName, fd); err != nil {
		return errors.Join(fmt.Errorf("leave a memory file with the keeper: %w", err), file.Close())
	}
	old := l.file
	if l.file = file; old != nil {
		return old.Close()
	}
	return nil
}
