package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// ways are the two in which a file can wait for its name.
var ways = map[string]bool{"without a name": true, "with a name of its own": false}

func start(t *testing.T, path string, anonymous bool, text string) *File {
	t.Helper()
	f, err := create(path, 0o644, anonymous)
	if err != nil {
		t.Fatal(err)
	}
	if (f.temp == "") != anonymous {
		t.Skip("missing: a file system with O_TMPFILE")
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return f
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestAFileAppearsWhenItIsCompleteAndReplacesAnother(t *testing.T) {
	for name, anonymous := range ways {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			for _, text := range []string{"one", "two"} {
				f := start(t, path, anonymous, text)
				if got, _ := os.ReadFile(path); string(got) == text {
					t.Error("it has its name before it is committed")
				}
				if err := f.Commit(); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(path)
				if err != nil || string(got) != text {
					t.Errorf("read %q, %v; want %q", got, err, text)
				}
				if err := f.Commit(); !errors.Is(err, os.ErrClosed) {
					t.Errorf("committed twice: %v", err)
				}
			}
			if got := names(t, filepath.Dir(path)); !slices.Equal(got, []string{"file"}) {
				t.Errorf("the directory holds %q", got)
			}
			if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o644 {
				t.Errorf("%v, %v", fi.Mode(), err)
			}
		})
	}
}

func TestADiscardedFileLeavesNothing(t *testing.T) {
	for name, anonymous := range ways {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			start(t, filepath.Join(dir, "file"), anonymous, "text").Discard()
			f := start(t, filepath.Join(dir, "sub"), anonymous, "text")
			if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := f.Commit(); err == nil {
				t.Error("a file took the place of a directory")
			}
			if got := names(t, dir); !slices.Equal(got, []string{"sub"}) {
				t.Errorf("the directory holds %q", got)
			}
		})
	}
}

func TestSweepRemovesWhatTheDeadLeftAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	alive := start(t, filepath.Join(dir, "file"), false, "text")
	defer alive.Discard()
	for _, name := range []string{Prefix + "dead", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("other", filepath.Join(dir, Prefix+"link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, Prefix+"pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Sweep(dir); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{filepath.Base(alive.temp), Prefix + "link", Prefix + "pipe", "other"}
	slices.Sort(want)
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
	if err := alive.Commit(); err != nil {
		t.Error(err)
	}
	if err := Sweep(filepath.Join(dir, "missing")); err != nil {
		t.Error(err)
	}
}

func TestAMissingDirectoryIsReported(t *testing.T) {
	if _, err := Create(filepath.Join(t.TempDir(), "missing", "file"), 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}

func TestATemporaryFileHasNoName(t *testing.T) {
	dir := t.TempDir()
	for name, open := range map[string]func(string) (*os.File, error){"without": Temp, "with one for a moment": named} {
		f, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("text"), 1<<20); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := names(t, dir); len(got) > 0 {
			t.Errorf("%s: the directory holds %q", name, got)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Setenv("TMPDIR", filepath.Join(dir, "missing"))
	if _, err := Temp(""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}

func TestErrorsNameTheFileThatIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f := start(t, path, true, "text")
	defer f.Discard()
	if f.Name() != path {
		t.Errorf("it is called %s", f.Name())
	}
}

func TestSweepersDoNotDisturbTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	done := make(chan error)
	go func() {
		var err error
		for range 2000 {
			f, e := named(dir)
			if e == nil {
				e = f.Close()
			}
			err = errors.Join(err, e)
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
			if err := Sweep(dir); err != nil {
				t.Error(err)
			}
		}
	}
}
