package node

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// CacheLimits say how much of the disk the store may keep of what nobody uses now. The zero value limits nothing.
type CacheLimits struct {
	High, Low     Level         // eviction begins above High and ends at Low
	Reserve       int64         // bytes that are kept free for readers on a full disk, at most reserveShare of the disk
	IdleMounts    time.Duration // mounts that nothing has been fetched or looked up for in this time are unmounted if that is not enough; 0: none are
	MountedRanges bool          // then cold ranges of what is mounted are evicted
}

// Level is a watermark: a part of the file system, or of the store in bytes. The zero value is never reached.
type Level struct {
	Percent int   // of the file system's space, and inodes, that are in use by whatever
	Bytes   int64 // that the store's blobs and metadata images take
}

// ParseLevel reads "80%" or a number of bytes such as "20GB".
func ParseLevel(s string) (Level, error) {
	if digits, ok := strings.CutSuffix(s, "%"); ok {
		p, err := strconv.Atoi(digits)
		if err != nil || p < 1 || p > 99 {
			return Level{}, fmt.Errorf("%q is no part of the disk: 1%% to 99%% are", s)
		}
		return Level{Percent: p}, nil
	}
	n, err := humanize.ParseBytes(s)
	if err != nil || n == 0 || n > 1<<60 {
		return Level{}, fmt.Errorf("%q is neither a part of the disk such as 80%% nor a number of bytes such as 20GB", s)
	}
	return Level{Bytes: int64(n)}, nil
}

// Check reports limits that make no sense together.
func (l CacheLimits) Check() error {
	switch {
	case (l.High.Percent > 0) != (l.Low.Percent > 0):
		return errors.New("of the high and the low watermark both must be parts of the disk, or both bytes")
	case l.Low.Percent > l.High.Percent || l.Low.Bytes > l.High.Bytes:
		return errors.New("the low watermark is above the high one")
	}
	return nil
}

// space is what the store's disk has, and what the store takes of it.
type space struct {
	total, free      int64 // bytes, of what this process may use
	files, freeFiles int64 // inodes; no files where they are not limited
	cache            int64 // bytes of blobs and metadata images
}

// amount is what is to be given back, or was.
type amount struct {
	bytes int64
	files int64 // inodes
}

// enough reports whether a is all that was wanted.
func (a amount) enough(want amount) bool { return a.bytes >= want.bytes && a.files >= want.files }

// excess is what has to go so that the low watermark is reached, nothing if the high one is not exceeded.
func (l CacheLimits) excess(s space) amount {
	if l.High.Bytes > 0 {
		if s.cache <= l.High.Bytes {
			return amount{}
		}
		return amount{bytes: s.cache - l.Low.Bytes}
	}
	if l.High.Percent == 0 {
		return amount{}
	}
	over := func(used, total int64) int64 {
		if used <= part(total, l.High.Percent) {
			return 0
		}
		return used - part(total, l.Low.Percent)
	}
	return amount{bytes: over(s.total-s.free, s.total), files: over(s.files-s.freeFiles, s.files)}
}

// part is so many percent of n, without overflow.
func part(n int64, percent int) int64 { return n/100*int64(percent) + n%100*int64(percent)/100 }

// space looks at the store's disk.
func (n *Node) space() (space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(n.store.Root(), &st); err != nil {
		return space{}, fmt.Errorf("look at the disk of store %s: %w", n.store.Root(), err)
	}
	s := space{
		total: int64(st.Blocks-st.Bfree+st.Bavail) * st.Bsize, free: int64(st.Bavail) * st.Bsize, files: int64(st.Files), freeFiles: int64(st.Ffree),
	}
	kept, err := n.kept()
	for _, k := range kept {
		s.cache += k.Allocated
	}
	return s, err
}

// freeBytes is what is free on the store's disk, with what is kept for root: its growth says that somebody gave space back. 0 if that cannot be told.
func (n *Node) freeBytes() int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(n.store.Root(), &st); err != nil {
		return 0
	}
	return int64(st.Bfree) * st.Bsize
}
