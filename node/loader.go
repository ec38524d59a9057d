package node

import (
	"context"
	"errors"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/ondemand"
)

// loaders are where programs say that their dynamic loader is: of glibc and of musl, which is the C library at the same time, on the machines that Linux distributions are made for.
var loaders = [...]string{
	"lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1", "lib64/ld64.so.2", "lib/ld64.so.1", "lib/ld-linux-riscv64-lp64d.so.1", "lib64/ld-linux-loongarch-lp64d.so.1",
	"lib/ld-musl-x86_64.so.1", "lib/ld-musl-aarch64.so.1",
}

const (
	// cLibrary lies beside glibc's loader.
	cLibrary = "libc.so.6"
	// maxLoader bounds what is fetched of one of these files, in bytes.
	maxLoader = 4 << 20
	// maxLoaders bounds how many loaders of an image are taken seriously.
	maxLoaders = 2
)

// loaderExtents returns where the dynamic loader and the C library of an image are: whatever program its container runs, unless it is a static one, starts with them.
func loaderExtents(meta *erofs.FS) (found []erofs.Extent) {
	n := 0
	for _, name := range loaders {
		at, err := resolveLink(meta, name)
		if err != nil {
			continue
		}
		for _, file := range []string{at, path.Join(path.Dir(at), cLibrary)} {
			if h, err := meta.Find(file, true); err == nil {
				found = append(found, beginning(h, maxLoader)...)
			}
		}
		if n++; n == maxLoaders {
			break
		}
	}
	return slices.CompactFunc(found, func(a, b erofs.Extent) bool { return a == b })
}

// resolveLink returns the name that a path of the image has once the symbolic link at its end is followed.
func resolveLink(meta *erofs.FS, name string) (string, error) {
	h, err := meta.Find(name, false)
	if err != nil {
		return "", err
	}
	if h.Stat().Mode&unix.S_IFMT != unix.S_IFLNK {
		return name, nil
	}
	target, err := h.Target()
	if err != nil {
		return "", err
	}
	if path.IsAbs(target) {
		return target, nil
	}
	return path.Join(path.Dir(name), target), nil
}

// beginning returns where the first bytes of a regular file are.
func beginning(h erofs.Handle, most int64) []erofs.Extent {
	extents, err := h.Extents()
	if err != nil {
		return nil
	}
	for i, e := range extents {
		if e.Off+e.Len > most {
			extents[i].Len = max(most-e.Off, 0)
			return extents[:i+1]
		}
	}
	return extents
}

// prefetchLoader fetches what nearly every program begins with while its container is being made, when the link has nothing to do. It is a guess: if it fails, nothing is lost, and
// without guesses it is not made. The caller holds n.mu.
func (n *Node) prefetchLoader(img *image) {
	if n.cfg.Engine.ReadAround < 0 || img.hot() {
		return
	}
	blobs := img.attached.Blobs
	img.prefetches.guess(func(ctx context.Context) {
		meta, err := os.Open(img.attached.MetaPath)
		if err != nil {
			return
		}
		defer meta.Close()
		image, err := erofs.Open(meta, img.MetaSize)
		if err != nil {
			return
		}
		for _, e := range loaderExtents(image) {
			if d := int(e.Device) - 1; d >= 0 && d < len(blobs) {
				img.prefetches.work.Go(func() { tryPrefetch(ctx, blobs[d], int64(e.Block)*erofs.BlockSize, e.Len) })
			}
		}
	})
}

// tryPrefetch fetches once the kernel has opened the blob.
func tryPrefetch(ctx context.Context, b *ondemand.Blob, off, n int64) {
	_ = insist(ctx, b, func(error) {}, func() error {
		if err := b.Prefetch(ctx, off, n); errors.Is(err, ondemand.ErrUnbound) {
			return err
		}
		return nil
	})
}

// guess runs a prefetch that nobody is told of.
func (p *prefetches) guess(run func(context.Context)) {
	ctx, stop := context.WithCancel(context.Background())
	p.stop = append(p.stop, stop)
	p.work.Go(func() { run(ctx) })
}
