package snapshotter

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
)

// Node finds and mounts artifacts. Its methods may be called concurrently. It leaves mounts where they are until it is asked to unmount them, however long nobody reads: containerd may
// have been told of a mount that it is only about to use.
type Node interface {
	// Find finds the artifact that ref names, or the newest accepted one that is attached to the image that ref names, and has all on this machine that its mount needs.
	Find(ctx context.Context, ref oci.Ref, accept artifact.Accept) (*Found, error)
	// Layer opens the layer of an image that has the given chain ID, as it is in the registry, and returns its diff ID. What is read is not verified.
	Layer(ctx context.Context, image oci.Ref, chain digest.Digest) (io.ReadCloser, digest.Digest, error)
	// Mount mounts an artifact, given by a reference with a digest, on a directory.
	Mount(ctx context.Context, artifact, target string) error
	// Begins is told that a container is about to read what Mount has mounted on a directory. It does not wait for anything.
	Begins(target string)
	// Unmount takes off what Mount has mounted, unless it is in use, and sees to it that it is not mounted there again. That nothing is mounted there is no error.
	Unmount(ctx context.Context, target string) error
	// Used returns what mounted images take on the disk, in bytes, by the paths below the snapshots' directory on which they are mounted. What several have in common counts once.
	Used(ctx context.Context) (map[string]int64, error)
}

// Found is an artifact that can be mounted here.
type Found struct {
	Artifact string          // reference by digest
	Image    string          // reference by digest of the image that it stands for, "" if it was made from no image
	Subject  digest.Digest   // that image's manifest, or ""
	Chains   []digest.Digest // chain IDs of that image's layers, bottom first
	MetaSize int64           // bytes of the metadata image
}
