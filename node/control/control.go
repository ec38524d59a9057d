// Package control is the daemon's API for people and programs on the same machine: HTTP/1.1 with JSON over a unix socket.
//
//	POST   /v1/mounts          MountRequest    → MountResponse
//	DELETE /v1/mounts?target=  –               → –
//	POST   /v1/prepare         PrepareRequest  → PrepareResponse
//	POST   /v1/gc              GCRequest       → GCResponse
//	POST   /v1/check           CheckRequest    → CheckResponse
//	GET    /v1/status          –               → Status
//	GET    /v1/timeline?image=&last=  –       → Timeline
//	GET    /v1/recordings?image=  –            → Recordings
//	GET    /v1/healthz         –               → –
//	GET    /metrics, /healthz, /readyz, /debug/pprof/     see [Diagnostics]
//
// Whoever is answered can mount images as root: the socket's mode is 0600, and only root and the daemon's own user are answered. A request ends early when its client hangs up. Fields may be added
// to answers; a request with a field that the daemon does not know is refused, so that no wish is silently ignored. The package knows the
// wire and nothing of images: what is asked for is done by a [Service].
package control

import (
	"context"
	"time"
)

// DefaultAddress is where pageind listens unless told otherwise.
const DefaultAddress = "unix:///run/pagein/pageind.sock"

// Service does what clients ask for. Its methods may be called concurrently; errors may carry a class, see [Errorf].
type Service interface {
	// Mount makes the image appear at a directory.
	Mount(ctx context.Context, req MountRequest) (MountResponse, error)
	// Unmount takes the image off the directory target.
	Unmount(ctx context.Context, target string) error
	// Prepare makes the image mountable and says how.
	Prepare(ctx context.Context, req PrepareRequest) (PrepareResponse, error)
	// GC removes what nobody has mounted.
	GC(ctx context.Context, req GCRequest) (GCResponse, error)
	// CheckStore verifies all that is in the store.
	CheckStore(ctx context.Context, req CheckRequest) (CheckResponse, error)
	// Status describes the daemon and what it serves.
	Status(ctx context.Context) (Status, error)
	// Timeline tells what happened to a mounted image, of events those of the last time; 0 for all.
	Timeline(ctx context.Context, image string, last time.Duration) (Timeline, error)
	// Recordings returns what is kept of an image's first minutes.
	Recordings(ctx context.Context, image string) (Recordings, error)
}

// Source says which image is meant and how it may be reached.
type Source struct {
	Ref       string `json:"ref"`                  // as package oci reads it; paths in it are absolute
	PlainHTTP bool   `json:"plain_http,omitempty"` // speak HTTP to the registry
	Insecure  bool   `json:"insecure,omitempty"`   // do not verify the registry's certificate
}

// MountRequest asks for an image at a directory.
type MountRequest struct {
	Source
	Target    string `json:"target"`              // an absolute path of an existing directory
	Transport string `json:"transport,omitempty"` // "" = what the daemon was started with
	Policy
}

// MountResponse says what was mounted.
type MountResponse struct {
	ID        string `json:"id"`        // of the image: the SHA-256 of its metadata image
	Target    string `json:"target"`    // where it is mounted: the requested directory, symlinks resolved
	Transport string `json:"transport"` // that serves it
}

// PrepareRequest asks for an image to be made mountable by somebody else.
type PrepareRequest struct {
	Source
	Transport string `json:"transport,omitempty"`
	Policy
}

// Policy says how an image is read. Where images that are mounted share blobs, the most patient deadline counts for those.
type Policy struct {
	// Deadline is how long readers wait for bytes that cannot be had before they get an error: a duration such as "30s", or "wait" for as long as it takes; "" = what the
	// daemon was started with.
	Deadline string `json:"deadline,omitempty"`
	// Prefetch is what is fetched before somebody reads it: "none" or "all"; "" = what the daemon was started with.
	Prefetch string `json:"prefetch,omitempty"`
}

// PrepareResponse says how to mount a prepared image.
type PrepareResponse struct {
	ID        string `json:"id"`
	Transport string `json:"transport"`
	Command   string `json:"command"` // for a shell; DIR in it stands for the directory to mount on
}

// Status describes the daemon at one moment.
type Status struct {
	Version    string      `json:"version"`
	PID        int         `json:"pid"`
	Started    time.Time   `json:"started"`
	Root       string      `json:"root"`      // directory of the store
	Transport  string      `json:"transport"` // what is used unless a request names one
	Keeper     string      `json:"keeper"`    // who holds the descriptors; "" = nobody, fanotify mounts are refused
	Transports []Transport `json:"transports"`
	Policy     Policy      `json:"policy"` // of images for which nothing else was asked
	Images     []Image     `json:"images"`
	Totals     Totals      `json:"totals"`
	Cache      Cache       `json:"cache"`
	Unpacked   []Unpacked  `json:"unpacked,omitempty"` // images that containerd pulled and that are not lazy, the newest first, and only the newest
	Problem    string      `json:"problem,omitempty"`  // what is wrong with the daemon itself now, such as a full disk
}

// Unpacked is an image that was unpacked for containerd as any other snapshotter does it.
type Unpacked struct {
	Image  string    `json:"image"` // as containerd calls it
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Transport is a way for the kernel's misses to reach the daemon.
type Transport struct {
	Name      string `json:"name"`
	Available bool   `json:"available"`
	Reason    string `json:"reason,omitempty"` // why it is not available
	InUse     bool   `json:"in_use"`
}

// Image is an image that the daemon serves.
type Image struct {
	ID        string   `json:"id"`
	Ref       string   `json:"ref"`
	Names     []string `json:"names,omitempty"` // by which containerd pulled it first, where it did
	Transport string   `json:"transport"`
	Targets   []string `json:"targets"` // where it is mounted, in this daemon's mount namespace; of one that is lost, where it was
	Blobs     int      `json:"blobs"`
	MetaBytes int64    `json:"meta_bytes"`
	// The bytes of all its blobs, of those on this node, and what was received for them since the daemon started (compressed). A blob that several images share counts for each of them.
	TotalBytes   int64 `json:"total_bytes"`
	PresentBytes int64 `json:"present_bytes"`
	FetchedBytes int64 `json:"fetched_bytes"`
	Policy             // as its mounts asked for it, or as it is without
	State        State `json:"state"`
	// What its superblocks read through, as far as that is known, by their names in /sys/class/bdi.
	Backings []string `json:"backings,omitempty"`
	Problem  string   `json:"problem,omitempty"` // what is wrong with it now, such as its registry being out of reach
}

// State says how it is with an image.
type State string

// The states.
const (
	Lazy        State = "lazy"        // bytes are fetched as they are read
	Prefetching State = "prefetching" // and the rest in the background
	Complete    State = "complete"    // all bytes are on this node: no daemon is needed to read them
	Waiting     State = "waiting"     // readers wait: bytes cannot be had, and it is tried again
	Failing     State = "failing"     // readers get errors: bytes could not be had; the next read tries again
	Lost        State = "lost"        // mounted by an earlier daemon, and it cannot be served, or not be mounted again after a restart of the machine
)

// Totals is what the daemon has done since it started.
type Totals struct {
	BackendBytes    int64     `json:"backend_bytes"`    // received, before decompression
	BackendRequests int64     `json:"backend_requests"` // ranges asked for
	BackendRetries  int64     `json:"backend_retries"`  // of them, for something that had failed before
	BackendHedges   int64     `json:"backend_hedges"`   // of them, because an earlier one was slow
	BackendErrors   int64     `json:"backend_errors"`   // requests that failed or brought corrupt bytes
	InFlight        int64     `json:"in_flight"`        // backend requests under way
	DemandBytes     int64     `json:"demand_bytes"`     // fetched because somebody waited for them, before decompression
	AheadBytes      int64     `json:"ahead_bytes"`      // fetched because a sequential reader is about to want them
	AroundBytes     int64     `json:"around_bytes"`     // fetched as a guess from what was read nearby
	UselessBytes    int64     `json:"useless_bytes"`    // received for nothing: of answers that broke off, were corrupt or could not be stored
	PrefetchBytes   int64     `json:"prefetch_bytes"`   // fetched to have all
	WaitingReads    int64     `json:"waiting_reads"`    // the kernel's requests that wait now
	FailedReads     int64     `json:"failed_reads"`     // the kernel's requests that ended in an error
	OwnTime         Quantiles `json:"own_time"`         // of a miss, less the time spent waiting for the backend
	MissTime        Quantiles `json:"miss_time"`        // of a miss
}

// Quantiles describes a distribution of durations, in nanoseconds.
type Quantiles struct {
	Count int64         `json:"count"`
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
	Max   time.Duration `json:"max_ns"`
}
