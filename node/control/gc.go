package control

import "time"

// Cache describes what the store keeps on its disk, in bytes unless said otherwise.
type Cache struct {
	Bytes        int64 `json:"bytes"` // that blobs and metadata images take, each counted once however many images share it
	FreeBytes    int64 `json:"free_bytes"`
	TotalBytes   int64 `json:"total_bytes"`             // of the disk
	FreeFiles    int64 `json:"free_files"`              // inodes
	ReserveBytes int64 `json:"reserve_bytes,omitempty"` // kept for readers on a full disk; 0 while it is given up
	Full         bool  `json:"full,omitempty"`          // the disk is full, and all of the store is in use: reads of what is missing fail
	Untracked    int   `json:"untracked,omitempty"`     // mounted blobs of which no range can be evicted before they are unmounted, although that is wanted: their reads are not all known

	// Watermarks: eviction begins above high and ends at low. They are bytes of the cache, or percent of the disk that are in use by whatever.
	HighBytes   int64 `json:"high_bytes,omitempty"`
	LowBytes    int64 `json:"low_bytes,omitempty"`
	HighPercent int   `json:"high_percent,omitempty"`
	LowPercent  int   `json:"low_percent,omitempty"`

	// While a high watermark is exceeded: what has to go until the low one is reached, and what of the store cannot, by reason.
	OverBytes int64            `json:"over_bytes,omitempty"`
	OverFiles int64            `json:"over_files,omitempty"` // inodes
	Held      map[string]int64 `json:"held_bytes,omitempty"`

	Evicted map[string]int64 `json:"evicted"` // since the daemon started, by reason: "watermark", "full" (a write found no space), "gc"
}

// Why something cannot be evicted. The latter two are of blobs whose ranges the configuration wants to be evicted.
const (
	HeldMounted   = "mounted"   // images that are mounted use it
	HeldComplete  = "complete"  // the blob is complete, or was once, and is read without the daemon until it is unmounted
	HeldUntracked = "untracked" // not all reads of the blob are known, until it is unmounted
)

// GCRequest asks for the removal of what nobody has mounted.
type GCRequest struct {
	DryRun bool  `json:"dry_run,omitempty"` // only say what would go
	Bytes  int64 `json:"bytes,omitempty"`   // stop when so much has gone; 0: all that can go
}

// GCResponse says what went, or would.
type GCResponse struct {
	DryRun  bool      `json:"dry_run"`
	Bytes   int64     `json:"bytes"`
	Evicted []Evicted `json:"evicted"`
}

// Evicted is one of the things that went.
type Evicted struct {
	Kind  string    `json:"kind"` // "blob", with its map, "meta", a metadata image, or "cachefile", the kernel's copy of either
	ID    string    `json:"id"`
	Bytes int64     `json:"bytes"` // of disk space
	Used  time.Time `json:"used"`  // when it was last used, as far as is known
}
