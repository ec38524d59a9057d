package ondemand

import (
	"context"
	"errors"

	"github.com/pagein/pagein/internal/kmount"
)

// Image is what a transport must know of an image to serve its blobs and to have it mounted.
type Image struct {
	ID       string  // SHA-256 of the metadata image, 64 hex digits: the fsid
	MetaPath string  // the complete metadata image, a local file
	MetaSize int64   // bytes, a multiple of 4096
	Blobs    []*Blob // in device slot order
	Mounted  bool    // the kernel has it mounted already
}

// Transport carries the kernel's misses to the engine and filled bytes to the kernel. It knows neither backends nor OCI: on a miss it calls
// [Blob.Fill] and, when that returns, tells the kernel that the bytes are there or that they cannot be had.
//
// A transport whose kernel state outlives the daemon gives every file descriptor that state depends on to a [Holder] before the kernel can
// come to rely on it, and is constructed from what the holder kept.
type Transport interface {
	// Name is the word users select the transport with: "cachefiles", "fanotify" or "file".
	Name() string
	// Attach makes the image answerable and says how to mount it. After a restart it is called for every image that is still mounted, before
	// Serve; it then takes up the held descriptors in place of new ones, and the error is [ErrUnguarded] when they are not all there. A failed Attach changes
	// nothing that a mount may depend on. Attaching an image twice is an error; images may share blobs.
	Attach(ctx context.Context, img *Image) (kmount.EROFS, error)
	// Detach forgets an image whose superblocks the kernel has dropped. Blobs that no other image uses must be closed before. When it returns, the transport uses
	// neither them nor their maps.
	Detach(ctx context.Context, img *Image) error
	// Plain reports whether the kernel reads an attached image from complete files, and will neither ask nor tell the transport about it any more as long as it is mounted.
	Plain(img *Image) bool
	// Serve answers the kernel until ctx is done, then stops without touching kernel state and returns nil when nothing of it runs any more.
	Serve(ctx context.Context) error
	// Close lets go of the kernel. What is still mounted is then served by nobody, or by whoever gets the descriptors from the holder.
	Close() error
}

// ErrUnguarded says that a mount was without what keeps its readers from unverified bytes, for a time at least, so they may have seen some.
var ErrUnguarded = errors.New("the mount was not guarded")

// Holder keeps duplicates of file descriptors in another process, under names, for this process's successor.
type Holder interface {
	// Hold returns when the other process has the descriptor. Holding a second descriptor under the same name replaces the first.
	Hold(name string, fd int) error
	// Release makes the other process close the named descriptor; a name that is not held is no error.
	Release(name string) error
}

// Target is where a blob's verified bytes are put for the kernel to see.
type Target interface {
	// WriteAt writes len(p) bytes at off. Both are multiples of 4096 and p is page-aligned, as O_DIRECT wants it; the last block of a
	// blob is padded. It returns an error unless all bytes are in place: one that wraps [ErrUnbound] if the target was closed, one that wraps ENOSPC or EDQUOT if there is
	// no space. It may be called concurrently for distinct ranges.
	WriteAt(p []byte, off int64) (int, error)
}

// Presence remembers which frames of a blob are in its target. Its methods may be called concurrently.
type Presence interface {
	Has(frame int) bool
	Set(frame int)
	Clear(frame int)
	Count() int // frames present
}
