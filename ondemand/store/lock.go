package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrOwned is returned by [Open] for a directory that another process owns.
var ErrOwned = errors.New("store is in use")

// lockPatience is how long Open waits for another owner to go: a killed process keeps its locks until it is gone for good.
const lockPatience = time.Second

// takeLock locks the file, and leaves in it who did.
func takeLock(f *os.File) error {
	err := tryLock(f)
	for end := time.Now().Add(lockPatience); errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(end); err = tryLock(f) {
		time.Sleep(10 * time.Millisecond)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		owner, _ := io.ReadAll(io.LimitReader(f, 32)) // without it the message says less
		return fmt.Errorf("%w by another pageind (pid %s): stop it, or choose another directory with --root", ErrOwned, bytes.TrimSpace(owner))
	}
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	pid := fmt.Appendf(nil, "%d\n", os.Getpid())
	if _, err := f.WriteAt(pid, 0); err != nil {
		return fmt.Errorf("write the lock: %w", err)
	}
	return f.Truncate(int64(len(pid)))
}

func tryLock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
