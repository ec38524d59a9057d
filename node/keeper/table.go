package keeper

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// table is what a keeper holds. The descriptors are plain numbers: an os.File could be put into the runtime's epoll set, and the keeper
// would wake up for events that are none of its business.
type table struct {
	held map[string]int
	max  int
}

// newTable returns an empty table that holds as many descriptors as the process can, up to MaxHeld, after raising the limit if allowed.
func newTable() *table {
	const own = 64 // for the process itself; those of one unprocessed message come on top
	want := unix.Rlimit{Cur: MaxHeld + own + maxRights, Max: MaxHeld + own + maxRights}
	var have unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &have); err != nil {
		have.Cur = 1024
	} else if have.Cur < want.Cur {
		want.Max = max(want.Max, have.Max)
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &want) == nil {
			have = want
		} else if have.Cur = have.Max; unix.Setrlimit(unix.RLIMIT_NOFILE, &have) != nil {
			have.Cur = 1024
		}
	}
	return &table{held: map[string]int{}, max: min(MaxHeld, max(16, int(min(have.Cur, 1<<20))-own-maxRights))}
}

// put takes ownership of fd. A descriptor held under the same name is closed, after the new one is in place.
func (t *table) put(name string, fd int) error {
	if name == MountsName && !isInotify(fd) {
		unix.Close(fd)
		return fmt.Errorf("cannot hold %q: the descriptor is no inotify instance", name)
	}
	old, replaces := t.held[name]
	if !replaces && len(t.held) >= t.max {
		unix.Close(fd)
		return fmt.Errorf("cannot hold %q: %d descriptors are held already", name, len(t.held))
	}
	t.held[name] = fd
	if replaces {
		unix.Close(old)
	}
	return nil
}

func (t *table) remove(name string) {
	if fd, ok := t.held[name]; ok {
		delete(t.held, name)
		unix.Close(fd)
	}
}

// needed says whether a mount may depend on what is held. Without the inotify instance that would tell, it may.
func (t *table) needed() bool {
	if len(t.held) == 0 {
		return false
	}
	fd, ok := t.held[MountsName]
	if !ok {
		return true
	}
	n, err := watches(fd)
	return err != nil || n > 0
}
