// Package mkfs turns sources (a directory, a tar stream, the layers of an OCI image) into one flattened tree and puts the data of its files where images
// want it.
//
// It knows the rules of the sources, among them how layers hide what lies below them, and that equal data is stored once. It must not know OCI
// manifests, registries or how frames are compressed. There are two ways through it: [WriteImage] makes a plain image, whose data goes straight to a
// file, and [Pack] makes what lazy images are of, a tree and blobs.
//
// The idea to hold in mind: a source is read once, names and data apart. Names become a tree by rules that need no data; data gets its place later,
// when it is clear what else there is. Until then an extent of a plain image's tree holds a [Ref] of its sink, and data for blobs waits in units.
package mkfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/pagein/pagein/erofs"
)

// DefaultInlineLimit is the length in bytes up to which a file lives in the metadata image itself. A larger limit spares round trips for
// small files and blocks that they would fill badly, but the metadata is fetched before anything can run. Measured on the Go toolchain
// (16,703 inodes), metadata compressed with zstd and blob address space:
//
//	limit      0    256    512   1024   2048 bytes
//	meta     319    374    597   1198   1929 KiB
//	blob     258    253    241    231    223 MiB
//
// 512 costs 278 KiB, 11 ms on a link of 200 Mbit/s, about one round trip to a registry.
const DefaultInlineLimit = 512

// MaxFileSize is the length of the longest file that is accepted: what ext4 can hold.
const MaxFileSize = 16 << 40

// Options of a [Tree].
type Options struct {
	// InlineLimit is the length in bytes, 0 to erofs.BlockSize-1, up to which a whole file is kept in the metadata.
	InlineLimit int
	// TailLimit is the length in bytes up to which what follows the last full block of a file is kept in the metadata. Only data on device
	// 0 can have such tails: leave it 0 for trees with blobs.
	TailLimit int
	// OverlayWhiteouts has a tar taken as one layer of an image that is to be mounted by itself, with overlayfs over or below others: OCI's whiteouts and
	// opaque markers become character devices 0:0 and attributes "trusted.overlay.opaque". Without it, they are files like others.
	OverlayWhiteouts bool
	// ChunkSize has files that are not kept in the metadata stored in chunks of this many bytes, each of which is shared with equal ones: 0, or a
	// power of two from erofs.BlockSize to MaxChunkSize. There are no tails then.
	ChunkSize int64
	// Digests has the tree know the SHA-256 of files without holes: see erofs.WriteOptions.DigestXattr.
	Digests bool
	// TempDir is where temporary files are made; "" means the system's directory.
	TempDir string
	// Exclude are files that a directory source leaves out: outputs that may lie inside it.
	Exclude []os.FileInfo
	// Skip reports whether a directory source leaves out the file with a path below its top, and what is below it. It may be called from several
	// goroutines at once. nil skips nothing.
	Skip func(path string) bool
	// Note is told what was left out or looks odd, one sentence each. nil means nobody wants to know. It is called from one goroutine.
	Note func(message string)
	// Progress is told after each file what was stored so far. nil means nobody wants to know. It is not called concurrently.
	Progress func(Stats)
}

// Tree is a file tree under construction. Add sources, all with the same sink, close that, call [Tree.Finish], then hand [Tree.Root] and
// [Tree.InlineData] to [erofs.Write]. Methods must not be called concurrently.
type Tree struct {
	opts   Options
	top    *node        // while layers and tars are applied
	root   *erofs.Inode // once finished, or of a directory
	layer  int32        // number of the layer that is applied, from 1
	store  store        // of plain images
	inline spool
	used   bool
	notes  notes

	held    atomic.Int64 // see maxHeld
	implied int          // directories that were made because a name needs them
}

// New returns an empty tree. It must be closed.
func New(o Options) (*Tree, error) {
	for _, limit := range []int{o.InlineLimit, o.TailLimit} {
		if limit < 0 || limit >= erofs.BlockSize {
			return nil, fmt.Errorf("inline limit of %d bytes: want 0 to %d", limit, erofs.BlockSize-1)
		}
	}
	if err := checkChunkSize(o.ChunkSize); err != nil {
		return nil, err
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	if o.Progress == nil {
		o.Progress = func(Stats) {}
	}
	t := &Tree{opts: o, inline: spool{dir: o.TempDir}, notes: notes{tell: o.Note}}
	t.store = newStore(o, &t.inline)
	return t, nil
}

// AddTar fills an empty tree from a tar stream, plain or compressed with gzip or zstd. r is read to its end.
//
// Members are taken as GNU tar would extract them, with these decisions: a leading "/" is dropped, ".." anywhere in a name is an error,
// the last member of a name wins, missing parents become directories of root with mode 0755 and time 0 (and inherit from setgid
// directories), and a member below a symbolic link goes where the link leads inside the tree, as in a chroot. Nothing can leave the tree.
// Whiteouts are files like others, unless [Options] say what else they are to be.
func (t *Tree) AddTar(ctx context.Context, r io.Reader, sink Sink) error {
	if err := t.begin(); err != nil {
		return err
	}
	if err := t.addTar(ctx, contextReader{ctx, r}, sink); err != nil {
		return fmt.Errorf("read tar: %w", err)
	}
	return nil
}

func (t *Tree) addTar(ctx context.Context, r io.Reader, sink Sink) error {
	plain, err := Decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close() // only read
	s, err := t.scanTar(ctx, plain, storeCollector{&t.store, sink}, t.tarRules())
	if err != nil {
		return err
	}
	if err := t.merge(s); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // whoever writes to a pipe must not find it closed
		return fmt.Errorf("read what follows the stream: %w", err)
	}
	return nil
}

// tarRules are the rules for a tar that is the only source.
func (t *Tree) tarRules() rules {
	if t.opts.OverlayWhiteouts {
		return layerByItself
	}
	return plainTar
}

// ApplyLayer puts the next OCI layer, bottom first, on top of the tree. r is the layer's tar stream, not compressed (see [Decompress]), and is
// read to its end. What the tree then shows is what containerd's overlayfs snapshotter does:
//
// The rules of [Tree.AddTar] hold within the layer, of which the last word on each name is then put over the tree: directories over directories
// take new attributes and keep their entries, everything else replaces what is there. Whiteouts (".wh.NAME") and opaque markers (".wh..wh..opq")
// hide what lower layers have there, wherever in the stream they stand, and so does a character device 0:0, which overlayfs takes for a
// whiteout. A directory that only names need keeps the attributes of the one below it; over a symbolic link of a lower layer it takes the link's
// place. Hard links may lead to files of lower layers, even to those that the layer hides or replaces. Attributes "trusted.overlay.*" are
// left out, as overlayfs would obey them wherever the tree is mounted below it.
func (t *Tree) ApplyLayer(ctx context.Context, r io.Reader, sink Sink) error {
	if t.top == nil {
		if err := t.begin(); err != nil {
			return err
		}
	}
	s, err := t.scanTar(ctx, r, storeCollector{&t.store, sink}, layerOfStack)
	if err == nil {
		err = t.merge(s)
	}
	if err != nil {
		return fmt.Errorf("apply layer %d: %w", t.layer, err)
	}
	return nil
}

// begin makes sure that a tree has one source, or layers only.
func (t *Tree) begin() error {
	if t.used {
		return errors.New("the tree already has a source")
	}
	t.used = true
	return nil
}

// Root returns the finished tree.
func (t *Tree) Root() *erofs.Inode { return t.root }

// InlineData returns the data that the tree's inodes refer to as inline.
func (t *Tree) InlineData() io.ReaderAt { return &t.inline }

// Stats counts what was stored so far.
func (t *Tree) Stats() Stats { return t.store.stats }

// Close frees the temporary file of inline data. The tree cannot be written after that.
func (t *Tree) Close() error {
	if err := t.inline.close(); err != nil {
		return fmt.Errorf("close temporary file: %w", err)
	}
	return nil
}
