package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/erofs/check"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/oci/artifact"
)

// maxDevices bounds the blobs of an image, each of which costs descriptors here and in the keeper: an image has at most 1000 layers, each of which may borrow as much again.
const maxDevices = 2000

// checkNumber refuses artifacts that one node should not be asked to mount, before anything of them is fetched.
func checkNumber(a *artifact.Artifact) error {
	if len(a.Blobs) > maxDevices {
		return control.Errorf(control.Invalid, "it has %d blobs, at most %d are mounted", len(a.Blobs), maxDevices)
	}
	return nil
}

// checkMeta looks at the artifact's metadata image, which is in the store, before the kernel does: whether it is one that pagein convert makes, and whether it wants the
// very blobs that the artifact lists.
func (n *Node) checkMeta(ctx context.Context, id string, a *artifact.Artifact) error {
	f, err := os.Open(n.store.MetaPath(id))
	if err != nil {
		return err
	}
	defer f.Close()
	super, err := readMeta(ctx, f, a.MetaSize, n.cfg.CheckMetadata)
	if err != nil {
		return fmt.Errorf("metadata image: %w", err)
	}
	return a.CheckDevices(len(super.Devices), func(i int) (string, int64) {
		return super.Devices[i].Tag, int64(super.Devices[i].Blocks) * erofs.BlockSize
	})
}

// readMeta refuses metadata images that no converter of ours makes: whose features have the kernel run more of its code than lazy images need, decompressors above all, and, if
// all of it is to be checked, in which anything is not what and where it must be.
func readMeta(ctx context.Context, r io.ReaderAt, size int64, all bool) (erofs.Super, error) {
	img, err := erofs.Open(r, size)
	if err != nil {
		return erofs.Super{}, err
	}
	super := img.Super()
	_, needs := super.Features()
	for _, feature := range needs {
		if !slices.Contains([]string{"CHUNKED_FILE", "DEVICE_TABLE"}, feature) {
			return super, fmt.Errorf("it uses the feature %s, which no lazy image needs", feature)
		}
	}
	switch {
	case super.BlockSize != erofs.BlockSize:
		return super, fmt.Errorf("its blocks have %d bytes, those of lazy images %d", super.BlockSize, erofs.BlockSize)
	case !super.Checksummed:
		return super, errors.New("its superblock has no checksum")
	case !all:
		return super, nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wrong error
	_, err = check.Image(ctx, img, func(path string, err error) {
		if wrong == nil {
			wrong = fmt.Errorf("%s: %w", path, err)
			stop() // one is enough
		}
	})
	if wrong != nil {
		return super, wrong
	}
	return super, err
}
