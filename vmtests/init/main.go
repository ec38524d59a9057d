// Command init is the first process of a test guest. It sets the machine up, hands the commands of its spec to a child (itself, as "init run"), reaps
// whatever processes lose their parent, and powers the machine off when the child has ended.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/vmtests/wire"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "run" {
		os.Exit(runAll())
	}
	if err := boot(); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
	}
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Fprintln(os.Stderr, "init: power off:", err)
	}
}

func boot() error {
	spec, err := readSpec()
	if err != nil {
		return err
	}
	if err := setUp(spec); err != nil {
		return err
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	// The child is not started through a pipe of ours: it must be able to fail on its own.
	child := exec.Command("/proc/self/exe", "run")
	child.Stdout, child.Stderr = os.Stderr, os.Stderr
	child.ExtraFiles = []*os.File{port}
	if err := child.Start(); err != nil {
		return fmt.Errorf("start the runner: %w", err)
	}
	if err := reapUntil(child.Process.Pid); err != nil {
		return err
	}
	if spec.Orderly {
		return shutDown()
	}
	return nil
}

func readSpec() (wire.Spec, error) {
	var spec wire.Spec
	text, err := os.ReadFile(wire.SpecPath)
	if err != nil {
		return spec, err
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		return spec, fmt.Errorf("read %s: %w", wire.SpecPath, err)
	}
	return spec, nil
}

// openPort finds the virtio port by its name, which appears a moment after the driver.
func openPort() (*os.File, error) {
	for range 200 {
		ports, err := os.ReadDir("/sys/class/virtio-ports")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		for _, p := range ports {
			name, err := os.ReadFile("/sys/class/virtio-ports/" + p.Name() + "/name")
			if err == nil && string(name) == wire.Port+"\n" {
				return os.OpenFile("/dev/"+p.Name(), os.O_WRONLY, 0)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, errors.New("no virtio port named " + wire.Port)
}

// reapUntil waits for children, own and inherited, until the given one has ended.
func reapUntil(pid int) error {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for the runner: %w", err)
		case got == pid && status.ExitStatus() != 0:
			return fmt.Errorf("the runner ended with status %#x", status)
		case got == pid:
			return nil
		}
	}
}
