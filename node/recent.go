package node

import (
	"maps"
	"sync"
	"time"

	"github.com/pagein/pagein/oci/artifact"
)

const (
	// recentAge is how long an artifact is remembered that was found: until it is mounted, that is.
	recentAge = time.Minute
	// maxRecent bounds how many are.
	maxRecent = 16
)

// recent remembers the artifacts that were found lately, so that their mounts ask no registry for what it has just sent. Its methods may be called concurrently.
type recent struct {
	mu    sync.Mutex
	found map[origin]recentArtifact // by digest
}

type recentArtifact struct {
	*artifact.Artifact
	until time.Time
}

// add remembers what an origin with a digest names.
func (r *recent) add(o origin, a *artifact.Artifact) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(r.found, func(_ origin, a recentArtifact) bool { return now.After(a.until) })
	if r.found == nil || len(r.found) >= maxRecent {
		r.found = make(map[origin]recentArtifact)
	}
	r.found[o] = recentArtifact{a, now.Add(recentAge)}
}

// get returns what an origin names, or nil if that is not remembered.
func (r *recent) get(o origin) *artifact.Artifact {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a, ok := r.found[o]; ok && time.Now().Before(a.until) {
		return a.Artifact
	}
	return nil
}
