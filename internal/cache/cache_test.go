package cache

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestThingsAreMadeOnceAndOnlyWhole(t *testing.T) {
	dir := t.TempDir()
	var built atomic.Int32
	build := func(work string) error {
		built.Add(1)
		return os.WriteFile(filepath.Join(work, "file"), []byte("whole"), 0o644)
	}
	broken := errors.New("broken")
	if _, err := Get(t.Context(), dir, "thing", func(work string) error { return errors.Join(build(work), broken) }); !errors.Is(err, broken) {
		t.Fatalf("failed build: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "thing*")); err != nil || len(left) != 1 {
		t.Errorf("a failed build leaves %q, want only the lock", left)
	}
	built.Store(0)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			path, err := Get(t.Context(), dir, "thing", build)
			if data, readErr := os.ReadFile(filepath.Join(path, "file")); err != nil || readErr != nil || string(data) != "whole" {
				t.Errorf("got %q, %v, %v", data, err, readErr)
			}
		})
	}
	all.Wait()
	if n := built.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
}

func TestPruneRemovesWhatNobodyAsksFor(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-Unused - time.Hour)
	for _, name := range []string{"tree-old", "tree-new", "other-old"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if name != "tree-new" {
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := Prune(dir, "tree-"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"tree-old": false, "tree-new": true, "other-old": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", name, err == nil, want)
		}
	}
}
