// Package bpf tells which pages of files in EROFS mounts are touched: by whom, when, and whether the page cache had them.
//
// It knows superblocks, inodes and pages, and nothing of images, paths or profiles. Its programs run in the kernel; which ones is found out by trying, never by
// the kernel's version. The one idea to hold in mind: a touch is what a program wanted, not what the kernel read ahead for it. A page is reported when it is touched for the
// first time while recording, whether it was cached or not.
//
// What counts as a touch: a page that a read, splice, sendfile or exec asked for ([Read]), or that a page fault was about ([Fault]). A fault also maps cached
// neighbours (16 pages, aligned), and touches of those are invisible afterwards, so they are reported as [Around]. A page that was so reported is reported once more when
// it is read or faulted for certain. Reads that are cut short (by a signal, or memory that cannot be written) count with all that they asked for.
// Reads past the page cache (O_DIRECT on a block device) are not seen.
//
// Needs Linux 5.17 with BTF, and CAP_BPF and CAP_PERFMON.
package bpf

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// Limits of what may be asked for.
const (
	// MaxCgroups is how many control groups can be recorded at a time.
	MaxCgroups = 8
	// MaxDevices is how many superblocks can be recorded at a time, unless all are.
	MaxDevices = 1024
)

// The sizes that [Options] has unless it says something else.
const (
	defaultBuffer = 4 << 20 // 50,000 events
	defaultChunks = 1 << 17 // 4 MiB
)

// Options says what is recorded, and what that may take. The zero value records everything in all EROFS mounts.
type Options struct {
	// Devices are the device numbers of the superblocks to record, as stat(2) gives them in st_dev; empty: those of all EROFS mounts, unless OnlyDevices is set.
	Devices []uint64
	// OnlyDevices records nothing until [Tracer.AddDevice] is called, should Devices be empty.
	OnlyDevices bool
	// Processes are the numbers of processes to record, in the initial PID namespace, and with them all that they start from then on.
	// Empty: those of everybody.
	Processes []int
	// Cgroups are the directories of control groups (version 2) to record, with all below them: at most MaxCgroups. Empty: everybody.
	// If processes are given too, both must be met.
	Cgroups []string
	// Buffer is how many bytes of events may wait to be read: a power of two, at least a page; 0 means 4 MiB. What does not fit is dropped and counted.
	Buffer int
	// Chunks is for how many chunks of 64 pages, rounded up to a power of two, there is room to remember what was touched: 0 means 131,072. A small file is one chunk. Pages of
	// chunks that find no room, as some do before it is full, are reported at each touch. A chunk takes 32 bytes of kernel memory, touched or not.
	Chunks int
	// Variant forces one of [Variants]; "" takes the first that works.
	Variant string
}

// Tracer records touches. Its methods may be called concurrently, but [Tracer.Run] once.
type Tracer struct {
	variant string
	coll    *ebpf.Collection
	links   []link.Link
	reader  *ringbuf.Reader
}

// Open begins to record. If no variant works, the error says for each of them why, and errors.Is(err, [errors.ErrUnsupported]).
func Open(opts Options) (*Tracer, error) {
	if len(opts.Cgroups) > MaxCgroups || len(opts.Devices) > MaxDevices {
		return nil, fmt.Errorf("record %d control groups and %d devices: at most %d and %d are possible", len(opts.Cgroups), len(opts.Devices), MaxCgroups, MaxDevices)
	}
	cache := btf.NewCache() // of the kernel's types, for all variants
	var reasons []error
	for _, v := range variants {
		if opts.Variant != "" && opts.Variant != v.name {
			continue
		}
		t, err := v.open(opts, cache)
		if err == nil {
			return t, nil
		}
		reasons = append(reasons, fmt.Errorf("%s: %w", v.name, err))
	}
	if reasons == nil {
		return nil, fmt.Errorf("record touches: there is no variant %q", opts.Variant)
	}
	return nil, fmt.Errorf("record touches by eBPF: %w: %w", errors.ErrUnsupported, errors.Join(reasons...))
}

// Variant is how touches are seen: one of [Variants].
func (t *Tracer) Variant() string { return t.variant }

// AddDevice records a further superblock, by its st_dev. It means nothing if all are recorded anyway.
func (t *Tracer) AddDevice(dev uint64) error {
	if err := t.coll.Maps["devices"].Put(kernelDevice(dev), uint8(1)); err != nil {
		return fmt.Errorf("record device %d:%d: %w", unix.Major(dev), unix.Minor(dev), err)
	}
	return nil
}

// RemoveDevice ends the recording of a superblock.
func (t *Tracer) RemoveDevice(dev uint64) error {
	if err := t.coll.Maps["devices"].Delete(kernelDevice(dev)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("record device %d:%d no more: %w", unix.Major(dev), unix.Minor(dev), err)
	}
	return nil
}

// AddProcess records a further process and what it starts from now on. It means nothing if all are recorded anyway.
func (t *Tracer) AddProcess(pid int) error {
	if err := t.coll.Maps["tasks"].Put(uint32(pid), uint8(1)); err != nil { // #nosec G115 -- numbers of processes are below 2^22
		return fmt.Errorf("record process %d: %w", pid, err)
	}
	return nil
}

// RemoveProcess records a process no more. What it has started stays.
func (t *Tracer) RemoveProcess(pid int) error {
	err := t.coll.Maps["tasks"].Delete(uint32(pid)) // #nosec G115 -- as above
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("record process %d no more: %w", pid, err)
	}
	return nil
}

// Close ends the recording, if [Tracer.Run] has not, and frees what it took. What was not read is lost.
func (t *Tracer) Close() error {
	err := errors.Join(t.detach(), t.reader.Close())
	t.coll.Close()
	return err
}

func (t *Tracer) detach() error {
	var errs []error
	for _, l := range t.links {
		errs = append(errs, l.Close())
	}
	t.links = nil
	return errors.Join(errs...)
}

// fill puts into the maps what is to be recorded.
func (t *Tracer) fill(opts Options) error {
	for _, dev := range opts.Devices {
		if err := t.AddDevice(dev); err != nil {
			return err
		}
	}
	for _, pid := range opts.Processes {
		if err := t.AddProcess(pid); err != nil {
			return err
		}
	}
	for i, path := range opts.Cgroups {
		if err := t.addCgroup(i, path); err != nil {
			return fmt.Errorf("record the control group %s: %w", path, err)
		}
	}
	return nil
}

func (t *Tracer) addCgroup(i int, path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return t.coll.Maps["cgroups"].Put(uint32(i), uint32(dir.Fd())) // #nosec G115 -- both are small
}

// kernelDevice is a device number as the kernel has it: 12 and 20 bits.
func kernelDevice(dev uint64) uint32 { return unix.Major(dev)<<20 | unix.Minor(dev) }

// userDevice undoes kernelDevice.
func userDevice(dev uint32) uint64 { return unix.Mkdev(dev>>20, dev&(1<<20-1)) }
