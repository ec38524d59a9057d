package node

import (
	"os"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/kmount"
)

// largeFiles is how many bytes an image must have for each of its files, on average, to be read past the page cache. Below it, read-ahead from one file into the next, which only the page cache
// of the blob's file does, is worth more: the Go toolchain, 15,000 files, is read in three quarters of the time and with a third of the disk's requests.
const largeFiles = 1 << 20

// readDirectly has the kernel read an image of large files past the page cache of its blobs' files, once nobody is asked about it any more: then there is one copy of it in memory instead of
// two, and a read that waits for the disk waits for no kernel thread. That page cache is of use while frames are put there for the kernel to find, where another image reads them too, and
// for small files. The caller holds n.mu.
func (n *Node) readDirectly(img *image) {
	if img.direct || !n.directly(img) {
		return
	}
	mounts, err := img.mounts()
	if err != nil {
		n.log.Warn("mounts cannot be listed", "err", err)
		return
	}
	told := make(map[string]bool) // superblocks, which are all told by one of their mounts
	for _, m := range mounts {
		if told[m.Device] {
			continue
		}
		if m.ReadsDirectly() {
			img.direct, told[m.Device] = true, true
			continue
		}
		if top, ok, err := kmount.Lookup(m.Target); err == nil && ok && top.ID == m.ID { // else it is under another mount
			n.madeDirect(img, kmount.ReadDirectly(m))
			told[m.Device] = true
		}
	}
}

// directly reports whether the kernel should read the image past the page cache. The caller holds n.mu.
func (n *Node) directly(img *image) bool {
	return img.large && kmount.DirectIsSound() && img.transport.Plain(img.attached) && !n.shared(img)
}

// isLarge reports whether an attached image is one of large files.
func (img *image) isLarge() bool {
	f, err := os.Open(img.attached.MetaPath)
	if err != nil {
		return false
	}
	defer f.Close()
	meta, err := erofs.Open(f, img.MetaSize)
	if err != nil {
		return false
	}
	var bytes int64
	for _, b := range img.attached.Blobs {
		bytes += b.Size()
	}
	return bytes/largeFiles >= int64(min(meta.Super().Inodes, 1<<32))
}

// shared reports whether another attached image has one of the image's blobs. The caller holds n.mu.
func (n *Node) shared(img *image) bool {
	for _, b := range img.Blobs {
		if n.blobs[b.ID].users > 1 {
			return true
		}
	}
	return false
}

// madeDirect notes that the kernel was told to, or why it could not be. Nobody reads ahead below EROFS then, so EROFS does it, as far as is done on that disk. The caller holds n.mu.
func (n *Node) madeDirect(img *image, err error) {
	img.direct = true
	if err != nil {
		n.log.Debug("the kernel reads a complete image through the page cache of its files", "ref", img.Origin.Ref, "err", err)
		return
	}
	kib, err := kmount.DiskReadAhead(n.store.Root())
	for _, b := range img.backings {
		if err != nil {
			break
		}
		var now int
		if now, err = b.Name.ReadAhead(); err == nil && now < kib {
			err = b.Name.SetReadAhead(kib)
		}
	}
	if err != nil {
		n.log.Debug("the kernel's read-ahead stays as it is", "ref", img.Origin.Ref, "err", err)
	}
}
