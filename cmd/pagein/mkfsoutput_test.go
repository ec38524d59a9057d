package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
)

func TestAnImageOnStandardOutputIsTheOneInAFile(t *testing.T) {
	source, file := smallSource(t), filepath.Join(t.TempDir(), "image")
	if status, _, stderr := pagein(t, "pagein", "mkfs", "--quiet", file, source); status != exitSuccess {
		t.Fatal(stderr)
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := pagein(t, "pagein", "mkfs", "-", source)
	if status != exitSuccess || stdout != string(want) || stderr == "" {
		t.Errorf("status %d, %d bytes, want %d, with a summary on standard error: %q", status, len(stdout), len(want), stderr)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	var stderrOfFull bytes.Buffer
	if status := run(context.Background(), []string{"pagein", "mkfs", "-", source}, full, &stderrOfFull); status != exitFailure {
		t.Errorf("standard output that is full: status %d, %s", status, &stderrOfFull)
	}
}

func TestNoImageIsWrittenToATerminal(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.Feature(t, err == nil, "pseudo-terminals")
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	var stderr bytes.Buffer
	if status := run(context.Background(), []string{"pagein", "mkfs", "-", smallSource(t)}, terminal, &stderr); status != exitUsage {
		t.Errorf("status %d, %s", status, &stderr)
	}
}

func TestAKilledMkfsLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(t.TempDir(), "pagein")
	if out, err := exec.Command(require.Tool(t, "go"), "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	image, device := filepath.Join(dir, "image"), filepath.Join(dir, "device")
	if err := os.WriteFile(image, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "mkfs", "--blobdev="+device, image, "tar:-")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := writeTar(stdin, 100, 100_000); err != nil { // it reads on, as the archive might
		t.Error(err)
	}
	time.Sleep(50 * time.Millisecond)
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "image" {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if data, err := os.ReadFile(image); err != nil || string(data) != "before" {
		t.Errorf("the file that was there has %d bytes, %v", len(data), err)
	}
}
