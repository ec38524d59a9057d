package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/httprange"
)

// failingCalls makes calls fail as a network file system's do: the n-th with the n-th error, if there is one.
type failingCalls struct{ errs []error }

func (f *failingCalls) do(_ context.Context, call func() (func(), error)) error {
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		if err != nil {
			return err
		}
	}
	_, err := call()
	return err
}

func readPosix(o Object) ([]byte, error) {
	r, err := o.Range(context.Background(), 10, 100)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestStaleHandlesAreGotAnewAndOtherErrorsTold(t *testing.T) {
	dir, content := t.TempDir(), bytes.Repeat([]byte("0123456789"), 100)
	if err := os.WriteFile(filepath.Join(dir, "object"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	stale, broken := &fs.PathError{Op: "read", Path: "object", Err: unix.ESTALE}, &fs.PathError{Op: "read", Path: "object", Err: unix.EIO}
	for name, c := range map[string]struct {
		errs []error
		want error
	}{
		"stale at open":       {[]error{stale}, nil},
		"stale at read":       {[]error{nil, stale}, nil},
		"stale at both":       {[]error{stale, nil, stale, nil}, nil},
		"stale for ever":      {[]error{stale, stale, stale, stale}, unix.ESTALE},
		"stale after reopen":  {[]error{nil, stale, nil, stale}, unix.ESTALE},
		"I/O error at open":   {[]error{broken}, unix.EIO},
		"I/O error at read":   {[]error{nil, broken}, unix.EIO},
		"gone while reopened": {[]error{nil, stale, fs.ErrNotExist}, fs.ErrNotExist},
	} {
		o := &posixObject{file: file{dir: dir, name: "object", size: int64(len(content))}, calls: &failingCalls{errs: c.errs}}
		got, err := readPosix(o)
		if !errors.Is(err, c.want) || err == nil && !bytes.Equal(got, content[10:110]) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if permanent := errors.Is(c.want, fs.ErrNotExist); err != nil && IsPermanent(err) != permanent {
			t.Errorf("%s: permanent is %v: %v", name, !permanent, err)
		}
	}
}

func TestCallsThatHangAreGivenUpAndUndoneLater(t *testing.T) {
	calls := newPatientCalls(50 * time.Millisecond)
	release, undone := make(chan struct{}), make(chan struct{})
	start := time.Now()
	err := calls.do(context.Background(), func() (func(), error) {
		<-release
		return func() { close(undone) }, nil
	})
	if !errors.Is(err, errGivenUp) || !errors.Is(err, httprange.ErrStalled) || IsPermanent(err) || time.Since(start) > 5*time.Second {
		t.Fatalf("after %v: %v", time.Since(start), err)
	}
	close(release)
	select {
	case <-undone:
	case <-time.After(5 * time.Second):
		t.Error("what it achieved is never undone")
	}
}

func TestCallsThatHangAreBounded(t *testing.T) {
	calls := newPatientCalls(time.Millisecond)
	release := make(chan struct{})
	defer close(release)
	started := make(chan struct{}, 2*maxHanging)
	for range 2 * maxHanging {
		if err := calls.do(context.Background(), func() (func(), error) {
			started <- struct{}{}
			<-release
			return nil, nil
		}); !errors.Is(err, httprange.ErrStalled) {
			t.Fatal(err)
		}
	}
	if len(started) > maxHanging {
		t.Errorf("%d calls hang", len(started))
	}
}

// TestAReadThatNeverBeganLeavesNoHandle has so many calls hang that a read cannot be tried.
func TestAReadThatNeverBeganLeavesNoHandle(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "object"), make([]byte, 200), 0o600); err != nil {
		t.Fatal(err)
	}
	o := &posixObject{file: file{dir: dir, name: "object", size: 200}, calls: newPatientCalls(time.Minute)}
	r, err := o.Range(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	handle, calls := r.(*posixRange).f, newPatientCalls(time.Millisecond)
	o.calls = calls
	for len(calls.slots) < maxHanging {
		calls.slots <- struct{}{}
	}
	if _, err := r.Read(make([]byte, 100)); !errors.Is(err, httprange.ErrStalled) {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := handle.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the handle is still open: %v", err)
	}
}

func TestEndedContextGivesACallUp(t *testing.T) {
	calls := newPatientCalls(time.Minute)
	ctx, cancel := context.WithCancel(context.Background())
	release := make(chan struct{})
	defer close(release)
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := calls.do(ctx, func() (func(), error) {
		<-release
		return nil, nil
	}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// lateCalls gives each call up but the first few, which open the file, although it ends soon.
type lateCalls struct {
	inTime int
	late   sync.WaitGroup
}

func (l *lateCalls) do(_ context.Context, call func() (func(), error)) error {
	if l.inTime--; l.inTime >= 0 {
		_, err := call()
		return err
	}
	l.late.Go(func() {
		if undo, _ := call(); undo != nil {
			undo()
		}
	})
	return fmt.Errorf("%w: %w", errGivenUp, httprange.ErrStalled)
}

// TestReadsThatEndAfterTheyWereGivenUpChangeNothing is for the race detector too.
func TestReadsThatEndAfterTheyWereGivenUpChangeNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "object"), make([]byte, 200), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		calls := &lateCalls{inTime: 1}
		o := &posixObject{file: file{dir: dir, name: "object", size: 200}, calls: calls}
		if got, err := readPosix(o); !errors.Is(err, errGivenUp) || len(got) > 0 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		calls.late.Wait()
	}
}

func TestPipesAndLinksInADirectoryAreRefused(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, make([]byte, 200), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pipe", "link", "."} {
		o := &posixObject{file: file{dir: dir, name: name, size: 200}, calls: newPatientCalls(time.Second)}
		if _, err := readPosix(o); err == nil || errors.Is(err, httprange.ErrStalled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
