package snapshotter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/containerd/v2/pkg/snapshotters"
	"github.com/containerd/continuity/fs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/oci"
)

// unpack makes an ordinary snapshot of a layer that was not fetched. The layers below it, the topmost first, are usable. If the image that the layer was noted for is not to be had any
// more, the layer is fetched from the other image that is named, if one is.
func (s *Snapshotter) unpack(ctx context.Context, id string, below []string, other string) error {
	unlock, err := s.locks.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	n, err := s.lazy(id)
	if n == nil || err != nil {
		return err // somebody else was faster
	}
	images := slices.DeleteFunc(slices.Compact([]string{n.Image, other}), func(image string) bool { return image == "" })
	if len(images) == 0 {
		return fmt.Errorf("layer %s is needed by itself, and it is not known which image has it", n.Chain)
	}
	var errs error
	for _, image := range images {
		s.log.Info("layer is fetched, as it is needed by itself", "layer", n.Chain, "image", image)
		err := s.tryUnpack(ctx, id, below, n, image)
		if err == nil {
			return nil
		}
		errs = errors.Join(errs, fmt.Errorf("fetch layer %s of %s, which is needed by itself: %w", n.Chain, image, err))
	}
	return errs
}

// imageOf returns the image, by the digest of its manifest, that labels say a layer is of, or "".
func imageOf(labels map[string]string) string {
	image, err := oci.ParseRef(labels[snapshotters.TargetRefLabel])
	manifest := digest.Digest(labels[snapshotters.TargetManifestDigestLabel])
	if err != nil || image.Kind != oci.Registry || manifest.Validate() != nil {
		return ""
	}
	return oci.Ref{Kind: oci.Registry, Host: image.Host, Repository: image.Repository, Digest: manifest}.String()
}

func (s *Snapshotter) tryUnpack(ctx context.Context, id string, below []string, n *note, image string) error {
	tmp := filepath.Join(s.dir(id), "unpacking")
	if err := os.RemoveAll(tmp); err != nil { // what somebody left who was killed
		return err
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	parents := make([]string, len(below))
	for i, b := range below {
		parents[i] = s.content(b)
	}
	if err := s.apply(ctx, tmp, parents, n.Chain, image); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	usage, err := fs.DiskUsage(ctx, tmp)
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	if err := syncFS(tmp); err != nil {
		return err
	}
	// The directory may have been exchanged already, by somebody who was killed before he changed the note.
	if err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, s.content(id), unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("put it into place: %w", err)
	}
	unpacked := *n
	unpacked.Unpacked = &snapshots.Usage{Size: usage.Size, Inodes: usage.Inodes}
	if err := s.writeNote(id, unpacked); err != nil {
		return err
	}
	return os.RemoveAll(tmp)
}

// apply unpacks the layer into a directory as containerd does for overlayfs, and verifies it.
func (s *Snapshotter) apply(ctx context.Context, dir string, parents []string, chain digest.Digest, image string) error {
	ref, err := oci.ParseRef(image)
	if err != nil {
		return err
	}
	packed, diffID, err := s.node.Layer(ctx, ref, chain)
	if err != nil {
		return err
	}
	defer packed.Close() // only read
	plain, err := compression.DecompressStream(packed)
	if err != nil {
		return err
	}
	defer plain.Close() // only read
	verifier := digest.Digest(diffID).Verifier()
	tar := io.TeeReader(plain, verifier)
	if _, err := archive.Apply(ctx, dir, tar, archive.WithConvertWhiteout(archive.OverlayConvertWhiteout), archive.WithParents(parents)); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, tar); err != nil {
		return err
	}
	if !verifier.Verified() {
		return fmt.Errorf("the tar in it is not the one with diff ID %s that the image's config promises", diffID)
	}
	return nil
}
