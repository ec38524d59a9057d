package node

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand"
	"github.com/pagein/pagein/ondemand/backend"
	"github.com/pagein/pagein/ondemand/store"
)

// evicting returns a node that can evict and do nothing else. Its store has the metadata images of these IDs.
func evicting(t *testing.T, limits CacheLimits, metas ...string) *Node {
	t.Helper()
	root := t.TempDir()
	s, err := store.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, id := range metas {
		if err := os.WriteFile(s.MetaPath(id), make([]byte, 4096), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	return &Node{store: s, log: log, transports: &transports{}, evictor: newEvictor(limits, filepath.Join(root, reserveDir), log)}
}

// TestAWriteWithoutSpaceWaitsForNobodyWhoWaitsForIt: the evictor wants the mount table, whose owner has an image fetched by that very write.
func TestAWriteWithoutSpaceWaitsForNobodyWhoWaitsForIt(t *testing.T) {
	n := evicting(t, CacheLimits{High: Level{Bytes: 1}, Low: Level{Bytes: 1}}, strings.Repeat("ab", 32))
	n.evictor.timeout = 50 * time.Millisecond
	n.mu.Lock()
	ended := make(chan error)
	go func() {
		_, err := n.keepLimits(t.Context())
		ended <- err
	}()
	if n.room(t.Context()) {
		t.Error("there is room, whoever made it")
	}
	n.mu.Unlock()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestWhatCannotBeRemovedKeepsNothingElse has something in the store, used longest ago, that is no file.
func TestWhatCannotBeRemovedKeepsNothingElse(t *testing.T) {
	var ids []string
	for i := range 3 {
		ids = append(ids, fmt.Sprintf("%064x", i))
	}
	n := evicting(t, CacheLimits{}, ids[1:]...)
	odd := n.store.MetaPath(ids[0])
	if err := os.MkdirAll(filepath.Join(odd, "kept"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(odd, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	r, err := n.GC(t.Context(), control.GCRequest{})
	if err == nil || !strings.Contains(err.Error(), ids[0]) {
		t.Errorf("no word of what stays: %v", err)
	}
	if len(r.Evicted) != 2 {
		t.Errorf("%d objects were removed, want 2", len(r.Evicted))
	}
}

// evictable is a transport that could evict ranges.
type evictable struct{ ondemand.Transport }

func (evictable) Evict(*ondemand.Blob, int64) (int64, error) { return 0, nil }

// TestWhatALostImageReadsStays has two images share a blob, of which one is mounted and not served.
func TestWhatALostImageReadsStays(t *testing.T) {
	m, object := newBlob(t, 100)
	b, err := newEngine(t).Blob(m, []backend.Object{&gone{size: int64(len(object))}})
	if err != nil {
		t.Fatal(err)
	}
	served := &image{attached: &ondemand.Image{Blobs: []*ondemand.Blob{b}}, transport: evictable{}}
	n := &Node{images: map[string]*image{"served": served}}
	if got := len(n.mountedBlobs()); got != 1 {
		t.Errorf("of %d blobs ranges can be evicted, want 1", got)
	}
	n.lost = []imageState{{record: record{Blobs: []blobRecord{{ID: b.ID()}}}}}
	if got := len(n.mountedBlobs()); got != 0 {
		t.Errorf("ranges of %d blobs can be evicted that a lost image has", got)
	}
}
