// Package optimize lays an artifact's data out anew for a workload: it makes a second artifact of the same image, with one more blob, which holds what the workload touches in the
// order in which it does.
//
// It joins mkfs/hot, which knows what belongs into such a blob, with view and artifact. Nothing is rewritten: the new artifact borrows the blobs of the old one, and its own are the
// hot blob and a metadata image. The idea to hold in mind: both artifacts show the same file system, byte for byte, and either may be deleted.
package optimize

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/atomicfile"
	"github.com/pagein/pagein/mkfs/hot"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/view"
	"github.com/pagein/pagein/profile"
)

// Options of an optimization. All but TempDir, After and Progress shape the result.
type Options struct {
	Level    blob.Level                                                   // of the hot blob's compression
	TempDir  string                                                       // for the hot blob until it is pushed, "" means the system's directory
	After    *artifact.Predecessor                                        // the newest artifact of the image, or nil
	Ready    func(ctx context.Context, manifest ocispec.Descriptor) error // called before the manifest is stored, see artifact.Contents; may be nil
	Progress func(done, total int64)                                      // told now and then how many of how many bytes are with the destination; may be nil
	Covered  func(c hot.Coverage, bytes int64) (ok bool)                  // told what the profile covers and how many bytes are hot, before anything is pushed; may be nil. false ends it with ErrRefused
}

// ErrRefused says that [Options.Covered] wanted no more.
var ErrRefused = errors.New("the profile covers too little")

// ErrNothing says that a profile names nothing that could be laid out anew.
var ErrNothing = errors.New("nothing that the profile names has data of its own in the image")

// Result says what was made.
type Result struct {
	Descriptor ocispec.Descriptor `json:"descriptor"` // the new artifact's manifest
	Coverage   hot.Coverage       `json:"coverage"`
	Hot        int64              `json:"hot"`        // bytes of the hot blob
	Compressed int64              `json:"compressed"` // bytes of its object
	MetaPlain  int64              `json:"meta_plain"` // bytes of the metadata image
	Meta       int64              `json:"meta"`       // the same, compressed
	MetaBefore int64              `json:"meta_before"`
	Stored     int64              `json:"stored"` // bytes of the artifact without what it borrows
	Sent       int64              `json:"sent"`   // of these, bytes that the destination did not have
}

// Run makes an artifact for the profile of the one that v shows, which is at the given place, and stores it.
func Run(ctx context.Context, v *view.View, place artifact.Place, dst content.Storage, p *profile.Profile, o Options) (Result, error) {
	r, err := run(ctx, v, place, dst, p, o)
	if err != nil {
		return Result{}, fmt.Errorf("optimize %s: %w", v.Artifact.Name, err)
	}
	return r, nil
}

func run(ctx context.Context, v *view.View, place artifact.Place, dst content.Storage, p *profile.Profile, o Options) (r Result, err error) {
	image, err := open(ctx, v)
	if err != nil {
		return r, err
	}
	touches, coverage := hot.Find(image.root, image.devices, p)
	plan := hot.NewPlan(touches)
	coverage.Left = plan.Left()
	if o.Covered != nil && !o.Covered(coverage, plan.Size()) {
		return r, ErrRefused
	}
	if plan.Size() == 0 {
		return r, ErrNothing
	}
	object, err := atomicfile.Temp(o.TempDir)
	if err != nil {
		return r, err
	}
	defer object.Close() // a file without a name
	m, sum, err := writeHot(ctx, plan, image.devices, object, o)
	if err == nil && slices.ContainsFunc(v.Artifact.Blobs, func(b artifact.Blob) bool { return b.ID == m.ID() }) {
		// A layer has just this data in just this order, and no blob can be listed twice.
		plan.Pad()
		if _, err = object.Seek(0, io.SeekStart); err == nil {
			m, sum, err = writeHot(ctx, plan, image.devices, object, o)
		}
	}
	if err != nil {
		return r, err
	}
	contents := artifact.Contents{Subject: v.Artifact.Subject, Chains: v.Artifact.Chains, Base: v.Artifact.Descriptor.Digest, After: o.After, Ready: o.Ready, Progress: o.Progress}
	for _, b := range v.Artifact.Blobs {
		contents.Blobs = append(contents.Blobs, artifact.BlobContents{Borrowed: &artifact.Borrowed{Blob: b, From: place, Replaced: true}})
	}
	contents.Blobs = append(contents.Blobs, artifact.BlobContents{Map: m, Object: object, Digest: sum, Hot: m.Size()})
	meta, size, err := image.write(plan, m, o.TempDir)
	if err != nil {
		return r, err
	}
	defer meta.Close() // a file without a name
	contents.Meta, contents.Size = meta, size
	pushed, err := artifact.Push(ctx, dst, contents)
	if err != nil {
		return r, err
	}
	return Result{
		Descriptor: pushed.Descriptor, Coverage: coverage, Hot: m.Size(), Compressed: m.SourceSize(0), MetaPlain: size, Meta: pushed.Meta, MetaBefore: v.Artifact.Meta.Size,
		Stored: pushed.Stored, Sent: pushed.Sent,
	}, nil
}

// writeHot makes the hot blob's object and returns its map and digest.
func writeHot(ctx context.Context, plan *hot.Plan, devices []hot.Device, object io.Writer, o Options) (*blob.Map, digest.Digest, error) {
	spool, err := atomicfile.Temp(o.TempDir)
	if err != nil {
		return nil, "", err
	}
	defer spool.Close() // a file without a name
	if err := spool.Truncate(plan.Size()); err != nil {
		return nil, "", err
	}
	sum := sha256.New()
	m, err := plan.Write(ctx, devices, spool, io.MultiWriter(object, sum), o.Level)
	return m, digest.NewDigest(digest.SHA256, sum), err
}

// image is an artifact as it is laid out anew.
type image struct {
	tree    *erofs.FS
	meta    io.ReaderAt
	root    *erofs.Inode
	devices []hot.Device
}

// open reads the tree of an artifact, and opens its blobs.
func open(ctx context.Context, v *view.View) (*image, error) {
	tree, err := v.Tree()
	if err != nil {
		return nil, err
	}
	i := &image{tree: tree}
	if i.meta, err = v.Meta(); err != nil {
		return nil, err
	}
	if i.root, err = tree.Tree(); err != nil {
		return nil, err
	}
	for k := range v.Artifact.Blobs {
		m, err := v.Map(k)
		if err != nil {
			return nil, err
		}
		index, err := v.Artifact.FetchIndex(ctx, k, m)
		if err != nil {
			return nil, err
		}
		i.devices = append(i.devices, hot.Device{Map: m, Index: index, Data: v.Blob(k)})
	}
	return i, nil
}

// write writes the metadata image as it becomes with a hot blob, to a file without a name.
func (i *image) write(plan *hot.Plan, m *blob.Map, tempDir string) (meta *os.File, size int64, err error) {
	super := i.tree.Super()
	devices := append(super.Devices, erofs.Device{Tag: m.ID(), Blocks: uint64(m.Size()) / blob.BlockSize})
	plan.Apply(uint16(len(devices)))
	if meta, err = atomicfile.Temp(tempDir); err != nil {
		return nil, 0, err
	}
	written, err := erofs.Write(meta, i.root, erofs.WriteOptions{
		UUID: plan.UUID(super.UUID, m), VolumeName: super.VolumeName, BuildTime: super.BuildTime, BuildTimeNsec: super.BuildTimeNsec,
		InlineData: i.meta, Devices: devices, DigestXattr: super.DigestXattr,
	})
	if err != nil {
		return nil, 0, errors.Join(err, meta.Close())
	}
	return meta, written.Size, nil
}

// Cover says what a profile covers of an artifact, and how many bytes would be hot. No data is read.
func Cover(ctx context.Context, v *view.View, p *profile.Profile) (hot.Coverage, int64, error) {
	i, err := open(ctx, v)
	if err != nil {
		return hot.Coverage{}, 0, fmt.Errorf("apply the profile to %s: %w", v.Artifact.Name, err)
	}
	touches, coverage := hot.Find(i.root, i.devices, p)
	plan := hot.NewPlan(touches)
	coverage.Left = plan.Left()
	return coverage, plan.Size(), nil
}

// Identify completes a profile that was recorded with the very artifact that v shows: with its subject, and with the sizes of files and digests of data by which the profile finds them
// in other versions of the image.
func Identify(ctx context.Context, v *view.View, p *profile.Profile) error {
	i, err := open(ctx, v)
	if err != nil {
		return fmt.Errorf("complete the profile with %s: %w", v.Artifact.Name, err)
	}
	hot.Identify(i.root, i.devices, p)
	if v.Artifact.Subject != nil {
		p.Subject = v.Artifact.Subject.Digest.String()
	}
	return nil
}
