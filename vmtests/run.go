package vmtests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/pagein/pagein/vmtests/wire"
)

func (j Job) withDefaults() Job {
	if j.DiskMiB == 0 {
		j.DiskMiB = 512
	}
	if j.MemMiB == 0 {
		j.MemMiB = 1024
	}
	if j.CPUs == 0 {
		j.CPUs = 2
	}
	if j.Timeout == 0 {
		j.Timeout = 5 * time.Minute
	}
	if j.Log == nil {
		j.Log = func(string) {}
	}
	return j
}

// Run boots the kernel, runs the job's commands one after the other and powers the guest off. An error says that the guest did not get through its
// commands; a command that fails is no error but shows in the result, which is never nil. Guests may run at the same time.
// The working directory must lie in this module, whose package vmtests/init is built for the guest.
func (k *Kernel) Run(ctx context.Context, job Job) (*Result, error) {
	job = job.withDefaults()
	start := time.Now()
	r := new(Result)
	err := k.runJob(ctx, job, r)
	r.Elapsed = time.Since(start)
	if err != nil {
		return r, fmt.Errorf("run a guest with Linux %s: %w", k.Release, err)
	}
	return r, nil
}

func (k *Kernel) runJob(ctx context.Context, job Job, r *Result) error {
	for i, c := range job.Commands {
		if len(c.Args) == 0 {
			return fmt.Errorf("command %d has no arguments", i)
		}
	}
	accel, err := k.accelerator(ctx, job.Log)
	if err != nil {
		return err
	}
	r.Accelerator = accel
	ctx, cancel := context.WithTimeoutCause(ctx, job.Timeout, fmt.Errorf("the guest was not through after %v", job.Timeout))
	defer cancel()
	var p progress
	for try := 1; ; try++ {
		err = k.power(ctx, job, accel, r, func(e wire.Event) error { return p.handle(job, r, e) })
		if err != nil || p.started || ctx.Err() != nil || try == bootTries {
			break
		}
		job.Log("the kernel did not come up, which happens to emulated ones: " + tail(r.Console, 500))
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil && !p.ended {
		err = fmt.Errorf("the guest went off after %d of %d commands", len(r.Exit), len(job.Commands))
	}
	return err
}

// bootTries is how often a kernel is booted that crashes before its first process: QEMU's emulation sometimes runs an instruction while the kernel patches it (int3 in the first seconds).
const bootTries = 3

// progress is how far a guest has come.
type progress struct{ started, ended bool }

// handle takes in what the guest says.
func (p *progress) handle(job Job, r *Result, e wire.Event) error {
	if e.Kind == wire.KindOutput || e.Kind == wire.KindExit {
		if e.Command < 0 || e.Command >= len(job.Commands) {
			return fmt.Errorf("the guest speaks of command %d of %d", e.Command, len(job.Commands))
		}
	}
	switch e.Kind {
	case wire.KindOutput:
		if w := job.Commands[e.Command].Output; w != nil {
			if _, err := w.Write(e.Data); err != nil {
				return fmt.Errorf("pass on the output of command %d: %w", e.Command, err)
			}
		}
	case wire.KindExit:
		r.Exit = append(r.Exit, Exit{Code: e.Code, Problem: e.Problem, Millis: e.Millis})
	case wire.KindStart:
		p.started = true
	case wire.KindEnd:
		p.ended = true
	case wire.KindFail:
		return fmt.Errorf("the guest cannot go on: %s", e.Problem)
	default:
		return fmt.Errorf("the guest sent an event of kind %q", e.Kind)
	}
	return nil
}

// power makes the guest's files, runs it under the given accelerator, and leaves the console's end in r. A negative disk size means no content is
// wanted: the disk is as small as it can be.
func (k *Kernel) power(ctx context.Context, job Job, accel string, r *Result, handle func(wire.Event) error) (err error) {
	work, err := os.MkdirTemp("", "pagein-vm-")
	if err != nil {
		return err
	}
	defer func() {
		if rerr := os.RemoveAll(work); err == nil {
			err = rerr
		}
	}()
	m := machine{
		kernel: k, accel: accel, cpus: job.CPUs,
		initramfs: filepath.Join(work, "initramfs"), disk: filepath.Join(work, "disk"), console: filepath.Join(work, "console"),
	}
	size, err := k.writeInitramfs(ctx, job, work, m.initramfs)
	if err != nil {
		return err
	}
	// The archive and its unpacked copy exist at the same time, and the copy may fill half of the memory at most.
	m.memMiB = job.MemMiB + int(2*size>>20)
	if job.Disk != "" {
		m.disk = job.Disk
	}
	if _, err := os.Stat(m.disk); errors.Is(err, os.ErrNotExist) {
		err = makeDisk(ctx, m.disk, job)
		if err != nil {
			return err
		}
	}
	err = m.run(ctx, handle)
	r.Console = readTail(m.console, consoleTail)
	return err
}

// makeDisk formats a sparse file. Block size 4096, as cachefiles wants no block larger than a page and pagein writes no smaller.
func makeDisk(ctx context.Context, file string, job Job) error {
	mib := max(job.DiskMiB, 16)
	args := []string{"-q", "-F", "-b", "4096", "-E", "lazy_itable_init=1,lazy_journal_init=1"}
	if job.DiskDir != "" {
		args = append(args, "-d", job.DiskDir)
	}
	return run(ctx, "", "mkfs.ext4", append(args, file, strconv.Itoa(mib)+"M")...)
}
