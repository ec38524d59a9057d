package kmount

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// mountingEnv has, in a child, the image that it mounts over and over.
const mountingEnv = "PAGEIN_TEST_MOUNTING"

// mountOverAndOver makes mounts that nobody sees, one at a time, until its standard input ends.
func mountOverAndOver(image string) error {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	for said := false; ; said = true {
		fd, err := makeMount(EROFS{Source: image})
		if err == nil {
			err = unix.Close(fd)
		}
		if err != nil {
			return err
		}
		if !said {
			fmt.Println("mounting")
		}
		select {
		case <-ended:
			return nil
		default:
		}
	}
}

// othersMount has processes mount an image over and over, until end is called.
func othersMount(t *testing.T, processes int, image string) (end func()) {
	t.Helper()
	var ends []func()
	end = func() {
		for _, f := range ends {
			f()
		}
		ends = nil
	}
	t.Cleanup(func() { end() })
	for range processes {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), mountingEnv+"="+image)
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, func() {
			_ = in.Close()
			if err := cmd.Wait(); err != nil {
				t.Errorf("another process that mounts: %v", err)
			}
		})
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatalf("another process does not mount: %v", err)
		}
	}
	return end
}

// TestWhatAMountReadsThroughIsKnownWhileOthersMount makes mounts beside others who do, and keeps them: what is left when the others have ended are its own.
func TestWhatAMountReadsThroughIsKnownWhileOthersMount(t *testing.T) {
	image, _ := mountable(t)
	end := othersMount(t, 4, image)
	mounts := make(map[Backing]*Detached)
	defer func() {
		for _, d := range mounts {
			_ = d.Close()
		}
	}()
	for range 40 {
		d, err := Open(t.Context(), EROFS{Source: image})
		if err != nil {
			t.Fatal(err)
		}
		b := d.Backing()
		if b == "" || mounts[b] != nil {
			_ = d.Close()
			t.Fatalf("mount %d reads through %q", len(mounts), b)
		}
		mounts[b] = d
	}
	end()
	for b, d := range mounts {
		if !slices.Contains(backings(), b) {
			t.Errorf("%s was another's", b)
		}
		if _, err := b.ReadAhead(); err != nil {
			t.Error(err)
		}
		delete(mounts, b)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if slices.Contains(backings(), b) {
			t.Errorf("%s stays when its mount is gone", b)
		}
	}
}
