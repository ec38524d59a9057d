package main

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/node/control"
)

// gc runs pagein gc and returns what it did to the kernel's cache files.
func (l *lab) gcCacheFiles(args ...string) (gone []control.Evicted) {
	l.Helper()
	var resp control.GCResponse
	if err := json.Unmarshal([]byte(l.pagein(append([]string{"gc", "--json"}, args...)...)), &resp); err != nil {
		l.Fatal(err)
	}
	for _, e := range resp.Evicted {
		if e.Kind == "cachefile" {
			gone = append(gone, e)
		}
	}
	return gone
}

// TestCacheFilesThatNobodyHasMountedAreEvicted leaves those that are mounted, and finds those that an earlier daemon left.
func TestCacheFilesThatNobodyHasMountedAreEvicted(t *testing.T) {
	require.Guest(t)
	l := newLab(t)
	tree := l.bigFiles("f")
	l.start()
	ref := l.layout(tree)
	target := l.mount(ref, "a")
	l.readAll(tree, target)
	if gone := l.gcCacheFiles(); len(gone) > 0 {
		t.Errorf("removed while it is mounted: %+v", gone)
	}
	l.pagein("umount", target)
	l.stop(unix.SIGTERM)
	l.start()
	l.waitFor("the cache files to be idle", func() bool { return len(l.gcCacheFiles("--dry-run")) == 2 })
	var bytes int64
	for _, e := range l.gcCacheFiles() {
		bytes += e.Bytes
	}
	if bytes < 3<<20 {
		t.Errorf("%d bytes were given back", bytes)
	}
	left, err := filepath.Glob(filepath.Join(l.root, "cachefiles", "cache", "I*", "@*", "D*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	l.pagein("mount", ref, target)
	l.readAll(tree, target)
}
