// Package vmtests runs programs and Go tests under other kernels: Debian's newest 6.1 and 6.12, with EROFS and cachefiles rebuilt so that
// they serve on-demand reads, in QEMU.
//
// [Prepare] resolves the newest packages through apt, unpacks them without installing anything, rebuilds the two modules and caches the result;
// [Kernel.Run] boots a kernel with a list of commands and returns what each of them said and how it ended. It knows nothing of pagein's
// other packages: what is to be run comes as files. The one idea to hold in mind: the kernel's console and the commands' output never share a
// channel, so no kernel message can garble a test's result.
package vmtests

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Series are the kernel series that can be prepared, oldest first.
func Series() []string { return []string{"6.1", "6.12"} }

// Kernel is a bootable kernel with the modules a guest needs.
type Kernel struct {
	Release string   `json:"release"` // as uname -r says, such as "6.1.0-56-amd64"
	Version string   `json:"version"` // of the packages it was made from, such as "6.1.192-2"
	Modules []string `json:"modules"` // file names below the directory "modules", in load order

	dir string
}

// Job is what a guest is to do. The guest's root is a memory file system; /disk is an ext4 file system on a virtio disk.
type Job struct {
	Commands []Command
	Files    map[string]string // absolute path in the guest → file on the host; permissions are kept
	DiskDir  string            // directory on the host whose content /disk begins with; may be empty
	DiskMiB  int               // size of /disk, default 512; the file on the host is sparse
	Disk     string            // file on the host that /disk is, made if it is not there, and kept for another guest; empty for one that ends with the guest
	Orderly  bool              // end by stopping all processes and unmounting; else power goes the moment the last command ends, and takes what was not synced
	MemMiB   int               // memory, default 1024; Files take their share of it
	CPUs     int               // default 2
	Timeout  time.Duration     // for everything from power-on to power-off, default 5 minutes
	Log      func(string)      // says what is going on, one line a time; may be nil
}

// Command is one program that the guest runs, after the one before it has ended, however that went.
type Command struct {
	Args    []string      // Args[0] is a path in the guest; busybox provides /bin/sh and the usual tools
	Env     []string      // added to PATH, HOME and TMPDIR
	Dir     string        // working directory, default /
	Timeout time.Duration // after it the command is killed, default none but the job's
	Output  io.Writer     // standard output and error as they come; may be nil
}

// Result says how a guest's commands ended.
type Result struct {
	Exit        []Exit // one for every command that ended
	Console     string // the last 64 KiB of the kernel's console
	Accelerator string // "kvm" or "tcg"
	Elapsed     time.Duration
}

// Exit is how one command ended.
type Exit struct {
	Code    int    `json:"code"` // -1 if it did not exit by itself
	Problem string `json:"problem,omitempty"`
	Millis  int64  `json:"millis"`
}

// MissingError says that the host lacks something without which no guest can run.
type MissingError struct {
	What    string // such as "program qemu-system-x86_64"
	Package string // Debian's package that brings it, or a hint; may be empty
}

func (e *MissingError) Error() string {
	if e.Package == "" {
		return e.What
	}
	return fmt.Sprintf("%s (apt-get install %s)", e.What, e.Package)
}

// cacheKind is where kernels are kept between runs, as a kind of [cache.Dir].
const cacheKind = "vm"

// Prepare returns the newest kernel of a series, made now or taken from the cache. Calls may run at the same time, in one or several
// processes. log, if not nil, is told what takes long. A [MissingError] in the chain says what the host lacks.
func Prepare(ctx context.Context, series string, log func(string)) (*Kernel, error) {
	if log == nil {
		log = func(string) {}
	}
	k, err := prepare(ctx, series, log)
	if err != nil {
		return nil, fmt.Errorf("prepare Linux %s: %w", series, err)
	}
	return k, nil
}
