package convert

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/remote"
	"github.com/pagein/pagein/oci/view"
)

// MaxDictionary is how many pieces of data a dictionary can know: small files, and frames of larger ones.
const MaxDictionary = 4 << 20

// dictCache is how many bytes of frames are kept while a dictionary is verified.
const dictCache = 8 << 20

// Dictionary finds file data in the blobs of earlier artifacts, so that a conversion can refer to it instead of storing it again. It needs 44 bytes
// of memory for each piece that it knows, twice that while it is loaded, and the blobs' maps lie in temporary files. It serves one conversion, and must be closed.
type Dictionary struct {
	views  []*view.View
	blobs  []lent
	ids    map[string]bool   // of the blobs
	pieces []piece           // sorted, each content once
	starts [1<<16 + 1]uint32 // of the pieces whose digests begin with two given bytes
}

// lent is a blob that can be borrowed.
type lent struct {
	borrowed artifact.Borrowed
	view     *view.View
	number   int // in the view
}

// piece is data that is stored in one piece.
type piece struct {
	digest [32]byte // SHA-256 of its blocks
	block  uint32   // of the blob, at which it begins
	blocks uint16   // its length
	blob   uint16   // number of the blob
	claim  bool     // only an index says so: if it is used, it must be verified; of frames, who reads them makes sure
	used   bool
}

// size is the piece's length in bytes.
func (p *piece) size() int64 { return int64(p.blocks) * blob.BlockSize }

// Lender is an artifact whose blobs may be borrowed.
type Lender struct {
	Place    artifact.Place
	Artifact *artifact.Artifact
	Remote   *remote.Remote // how to reach storage that it is attached to; nil if it is not
}

// LoadDictionary learns what the blobs of artifacts hold. Note is told of blobs that cannot be borrowed any more, because their data would be scattered
// over too many artifacts.
func LoadDictionary(ctx context.Context, tempDir string, note func(string), lenders ...Lender) (*Dictionary, error) {
	d := &Dictionary{ids: map[string]bool{}}
	for _, l := range lenders {
		if err := d.lend(ctx, l, tempDir, note); err != nil {
			return nil, errors.Join(fmt.Errorf("use %s as a dictionary: %w", l.Artifact.Name, err), d.Close())
		}
	}
	d.sort()
	return d, nil
}

// Close frees the temporary files.
func (d *Dictionary) Close() error {
	var errs []error
	for _, v := range d.views {
		errs = append(errs, v.Close())
	}
	d.views = nil
	return errors.Join(errs...)
}

func (d *Dictionary) lend(ctx context.Context, l Lender, tempDir string, note func(string)) error {
	v, err := view.Open(ctx, l.Place, l.Artifact, view.Options{Cache: dictCache, TempDir: tempDir, Remote: l.Remote})
	if err != nil {
		return err
	}
	d.views = append(d.views, v)
	left := 0
	for i, b := range l.Artifact.Blobs {
		switch {
		case b.Depth >= artifact.MaxDepth:
			left++
		case !d.ids[b.ID]: // else a dictionary before has it
			if err := d.learn(ctx, v, i); err != nil {
				return err
			}
			d.ids[b.ID] = true
			d.blobs = append(d.blobs, lent{borrowed: artifact.Borrowed{Blob: b, From: l.Place}, view: v, number: i})
		}
	}
	if left > 0 && note != nil {
		note(fmt.Sprintf("%d of the %d blobs of %s were borrowed %d times already: what they hold is stored anew", left, len(l.Artifact.Blobs), l.Artifact.Name, artifact.MaxDepth))
	}
	return nil
}

// learn gathers the pieces of a blob: the units of its index, and the frames in which there are none.
func (d *Dictionary) learn(ctx context.Context, v *view.View, i int) error {
	m, err := v.Map(i)
	if err != nil {
		return err
	}
	index, err := v.Artifact.FetchIndex(ctx, i, m)
	if err != nil {
		return err
	}
	units := 0
	if index != nil {
		units = index.Units()
	}
	if len(d.pieces)+m.Frames()+units > MaxDictionary {
		return fmt.Errorf("its blobs hold too many files: a dictionary can know %d pieces of data", MaxDictionary)
	}
	if len(d.blobs) > maxLent {
		return fmt.Errorf("there are more than %d blobs", maxLent)
	}
	number, next := uint16(len(d.blobs)), 0
	add := func(u blob.Unit, claim bool) {
		d.pieces = append(d.pieces, piece{
			digest: u.Digest, block: uint32(u.Block), blocks: uint16(u.Size / blob.BlockSize), blob: number, claim: claim,
		})
	}
	for j := range m.Frames() {
		f := m.Frame(j)
		whole := blob.Unit{Digest: f.Digest, Size: int64(f.Len), Block: uint64(f.Off) / blob.BlockSize}
		first := next
		for ; next < units; next++ {
			u := index.Unit(next)
			if int64(u.Block)*blob.BlockSize >= f.Off+int64(f.Len) {
				break
			}
			add(u, u != whole)
		}
		if next == first {
			add(whole, false)
		}
	}
	return nil
}

// maxLent is how many blobs can be borrowed from.
const maxLent = 1<<16 - 1

// sort makes the pieces fit to be searched. Of equal ones the first stays that needs no proof, in the order of dictionaries and their blobs.
func (d *Dictionary) sort() {
	slices.SortFunc(d.pieces, func(a, b piece) int {
		return cmp.Or(bytes.Compare(a.digest[:], b.digest[:]), cmp.Compare(a.blocks, b.blocks), compareBool(a.claim, b.claim),
			cmp.Compare(a.blob, b.blob), cmp.Compare(a.block, b.block))
	})
	d.pieces = slices.CompactFunc(d.pieces, func(a, b piece) bool { return a.digest == b.digest && a.blocks == b.blocks })
	at := 0
	for prefix := range d.starts {
		for at < len(d.pieces) && int(binary.BigEndian.Uint16(d.pieces[at].digest[:])) < prefix {
			at++
		}
		d.starts[prefix] = uint32(at)
	}
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Find implements [mkfs.Known]. What was found is remembered for [Dictionary.Verify].
func (d *Dictionary) Find(digest [32]byte, size int64) (number int, block uint64, ok bool) {
	prefix := binary.BigEndian.Uint16(digest[:])
	bucket := d.pieces[d.starts[prefix]:d.starts[int(prefix)+1]]
	i := sort.Search(len(bucket), func(i int) bool {
		c := bytes.Compare(bucket[i].digest[:], digest[:])
		return c > 0 || c == 0 && bucket[i].size() >= size
	})
	if i == len(bucket) || bucket[i].digest != digest || bucket[i].size() != size {
		return 0, 0, false
	}
	bucket[i].used = true
	return int(bucket[i].blob), uint64(bucket[i].block), true
}

// Blob returns the blob of a number that Find gave, and the device that it is for a metadata image.
func (d *Dictionary) Blob(number int) (*artifact.Borrowed, erofs.Device) {
	b := &d.blobs[number].borrowed
	return b, erofs.Device{Tag: b.Blob.ID, Blocks: uint64(b.Blob.Size) / blob.BlockSize}
}

// Pieces is how many pieces of data the dictionary knows.
func (d *Dictionary) Pieces() int { return len(d.pieces) }
