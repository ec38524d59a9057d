// Package view opens an artifact as a file system without a kernel, and verifies artifacts.
//
// It joins what artifact, blob, erofs and backend know: the metadata image gives the tree, each of its devices is a blob whose frames are fetched when they are
// read, verified, and kept for a while. It must not know how artifacts are made, nor anything of mounts.
//
// The idea to hold in mind: everything is fetched at first use. Listing a tree fetches the metadata image and nothing else. What is kept on disk lies in
// files without names, and what is kept in memory is bounded by [Options], whatever an artifact claims.
package view

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/atomicfile"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/remote"
)

// DefaultCache is how many bytes of decoded frames a view keeps if it is not told otherwise.
const DefaultCache = 32 << 20

// Options of a view. The zero value is useful.
type Options struct {
	Cache   int64  // bytes of decoded frames that are kept, 0 means DefaultCache
	TempDir string // for the metadata image and the maps, "" means the system's directory

	Remote *remote.Remote // how to reach the places that objects name; nil for where the artifact is only
}

// View is an artifact that is looked into. Its methods may be called concurrently, but for Close.
type View struct {
	Artifact *artifact.Artifact

	ctx   context.Context // ends every fetch: readers of the tree cannot pass one
	place artifact.Place
	o     Options
	dec   *blob.Decoder
	cache *cache
	zeros zeros

	meta     func() (*os.File, error)
	tree     func() (*erofs.FS, error)
	devices  []*device
	cleanups cleanups
}

// Open returns a view of the artifact a, which was loaded from place. It fetches nothing. When ctx ends, so does all reading. The view must be closed.
func Open(ctx context.Context, place artifact.Place, a *artifact.Artifact, o Options) (*View, error) {
	if o.Cache == 0 {
		o.Cache = DefaultCache
	}
	dec, err := blob.NewDecoder(runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	v := &View{Artifact: a, ctx: ctx, place: place, o: o, dec: dec, cache: newCache(o.Cache)}
	v.meta = sync.OnceValues(v.openMeta)
	v.tree = sync.OnceValues(v.openTree)
	for i := range a.Blobs {
		d := &device{v: v, index: i, flights: map[int]*flight{}}
		d.load = sync.OnceValues(d.open)
		v.devices = append(v.devices, d)
	}
	return v, nil
}

// Close lets go of what was fetched. The tree must not be used any more.
func (v *View) Close() error {
	v.dec.Close()
	return v.cleanups.run()
}

// Tree returns the artifact's file system. Reading from it fetches and verifies what is needed; no unverified byte is returned.
func (v *View) Tree() (*erofs.FS, error) { return v.tree() }

// Meta returns the verified metadata image, for as long as the view is open.
func (v *View) Meta() (io.ReaderAt, error) { return v.meta() }

// Map returns the verified map of blob i, 0 ≤ i < len(Artifact.Blobs).
func (v *View) Map(i int) (*blob.Map, error) {
	loaded, err := v.devices[i].load()
	return loaded.m, err
}

// Blob returns the bytes of blob i, 0 ≤ i < len(Artifact.Blobs), which are fetched and verified when they are read. It may be read concurrently.
func (v *View) Blob(i int) io.ReaderAt { return v.devices[i] }

func (v *View) openMeta() (*os.File, error) {
	f, err := v.tempFile()
	if err != nil {
		return nil, err
	}
	return f, v.Artifact.FetchMeta(v.ctx, f)
}

func (v *View) openTree() (*erofs.FS, error) {
	f, err := v.meta()
	if err != nil {
		return nil, err
	}
	tree, err := erofs.Open(f, v.Artifact.MetaSize, v.readers()...)
	if err == nil {
		err = v.checkImage(tree)
	}
	if err != nil {
		return nil, fmt.Errorf("metadata image of %s: %w", v.Artifact.Name, err)
	}
	return tree, nil
}

// checkImage makes sure that the metadata image has the blobs' blocks, and wants the very blobs that the artifact lists.
func (v *View) checkImage(tree *erofs.FS) error {
	super := tree.Super()
	if super.BlockSize != blob.BlockSize {
		return fmt.Errorf("blocks are of %d bytes, want %d", super.BlockSize, blob.BlockSize)
	}
	devices := super.Devices
	return v.Artifact.CheckDevices(len(devices), func(i int) (string, int64) { return devices[i].Tag, int64(devices[i].Blocks) * erofs.BlockSize })
}

// tempFile makes a file without a name that is closed with the view.
func (v *View) tempFile() (*os.File, error) {
	f, err := atomicfile.Temp(v.o.TempDir)
	if err == nil {
		v.cleanups.add(f.Close)
	}
	return f, err
}

// cleanups are what remains to be done when a view is closed.
type cleanups struct {
	mu    sync.Mutex
	steps []func() error
}

func (c *cleanups) add(f func() error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps = append(c.steps, f)
}

func (c *cleanups) run() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, f := range c.steps {
		errs = append(errs, f())
	}
	c.steps = nil
	return errors.Join(errs...)
}
