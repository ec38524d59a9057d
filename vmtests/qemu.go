package vmtests

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/vmtests/wire"
)

// consoleTail is how much of the console a result keeps.
const consoleTail = 64 << 10

// maxEvent bounds one line from the guest; output comes in pieces of at most 32 KiB.
const maxEvent = 1 << 20

// machine is one QEMU process with its files.
type machine struct {
	kernel    *Kernel
	initramfs string
	disk      string // may be empty
	console   string
	memMiB    int
	cpus      int
	accel     string
}

func (m machine) args() []string {
	accel, cpu := "tcg,thread=multi", "max"
	if m.accel == "kvm" {
		accel, cpu = "kvm", "host"
	}
	a := []string{
		"-accel", accel, "-cpu", cpu, "-smp", strconv.Itoa(m.cpus), "-m", strconv.Itoa(m.memMiB),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", filepath.Join(m.kernel.dir, "vmlinuz"), "-initrd", m.initramfs,
		// An oops ends the guest instead of leaving half a kernel to test with. Mitigations only cost time here.
		"-append", "console=ttyS0 rdinit=/init panic=-1 oops=panic loglevel=5 mitigations=off",
		"-chardev", "file,id=console,path=" + m.console, "-serial", "chardev:console",
		"-chardev", "stdio,id=events,signal=off",
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=events,name=" + wire.Port,
	}
	if m.disk != "" {
		a = append(a, "-drive", "file="+m.disk+",format=raw,if=none,id=disk,cache=unsafe", "-device", "virtio-blk-pci,drive=disk")
	}
	return a
}

// run powers the machine on and calls handle for every event until it is off. When ctx ends, the machine is killed.
func (m machine) run(ctx context.Context, handle func(wire.Event) error) error {
	qemu, err := find("qemu-system-x86_64")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, m.args()...)
	stdin, err := cmd.StdinPipe() // stays open: at its end QEMU would tell the guest that nobody listens
	if err != nil {
		return err
	}
	defer func() { _ = stdin.Close() }()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := os.Create(m.console + ".qemu")
	if err != nil {
		return err
	}
	defer func() { _ = stderr.Close() }()
	cmd.Stderr = stderr
	// QEMU must not outlive us, even if we are killed. The signal is tied to the thread that started it, so that thread is kept.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", qemu, err)
	}
	listenErr := listen(stdout, handle)
	if listenErr != nil {
		cancel()
	}
	waitErr := cmd.Wait()
	switch {
	case listenErr != nil:
		return listenErr
	case waitErr != nil && ctx.Err() == nil:
		said, err := os.ReadFile(stderr.Name())
		return errors.Join(fmt.Errorf("%s: %w: %s", qemu, waitErr, tail(string(said), 2000)), err)
	}
	return ctx.Err()
}

// listen decodes events until the stream ends.
func listen(r io.Reader, handle func(wire.Event) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxEvent)
	for lines.Scan() {
		var e wire.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("read an event from the guest: %w: %q", err, tail(lines.Text(), 200))
		}
		if err := handle(e); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read events from the guest: %w", err)
	}
	return nil
}

// readTail returns the last part of a file; a file that is not there is empty.
func readTail(name string, n int64) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if st, err := f.Stat(); err == nil && st.Size() > n {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return ""
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, n))
	if err != nil {
		return ""
	}
	return string(text)
}
