package snapshotter

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// TestContainersMayRemoveFilesWhileTheyAreMeasured has one write and remove files all the time.
func TestContainersMayRemoveFilesWhileTheyAreMeasured(t *testing.T) {
	l := newLab(t)
	if _, err := l.Prepare(t.Context(), "container", ""); err != nil {
		t.Fatal(err)
	}
	ids, err := l.ancestors(t.Context(), "container")
	if err != nil {
		t.Fatal(err)
	}
	dir := l.content(ids[0])
	kept := make([]byte, 1<<20)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "kept"), kept, 0o600), os.Link(filepath.Join(dir, "kept"), filepath.Join(dir, "too"))); err != nil {
		t.Fatal(err)
	}
	var busy sync.WaitGroup
	done := make(chan struct{})
	busy.Go(func() {
		for {
			for i := range 100 {
				sub := filepath.Join(dir, "d", strconv.Itoa(i))
				if err := errors.Join(os.MkdirAll(sub, 0o700), os.WriteFile(filepath.Join(sub, "f"), nil, 0o600)); err != nil {
					t.Error(err)
				}
			}
			if err := os.RemoveAll(filepath.Join(dir, "d")); err != nil {
				t.Error(err)
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for range 300 {
		if usage, err := l.Usage(t.Context(), "container"); err != nil || usage.Size < int64(len(kept)) || usage.Size >= 2*int64(len(kept)) {
			t.Errorf("%+v, %v", usage, err)
			break
		}
	}
	close(done)
	busy.Wait()
	if usage, err := l.Usage(t.Context(), "container"); err != nil || usage.Inodes != 2 {
		t.Errorf("at the end: %+v, %v", usage, err)
	}
}
