package convert

import (
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Figures count the file data of a layer or of a whole conversion. All but the first are bytes. Each byte of Data is in exactly one of Inlined,
// SharedFiles, SharedChunks, Borrowed and Unique.
type Figures struct {
	Files        int64 `json:"files"`         // regular files with data, hard links once
	Input        int64 `json:"input"`         // read from the source: a compressed layer, a tar, files
	Data         int64 `json:"data"`          // in files, holes left out
	Inlined      int64 `json:"inlined"`       // kept in the metadata image
	SharedFiles  int64 `json:"shared_files"`  // in files that are stored already, by this layer or one below
	SharedChunks int64 `json:"shared_chunks"` // in pieces of larger files that are stored already
	Borrowed     int64 `json:"borrowed"`      // found in the blobs of a dictionary
	Unique       int64 `json:"unique"`        // stored in the layer's own blob
	Compressed   int64 `json:"compressed"`    // of the blob's object
}

// Add adds the counts of g.
func (f *Figures) Add(g Figures) {
	f.Files += g.Files
	f.Input += g.Input
	f.Data += g.Data
	f.Inlined += g.Inlined
	f.SharedFiles += g.SharedFiles
	f.SharedChunks += g.SharedChunks
	f.Borrowed += g.Borrowed
	f.Unique += g.Unique
	f.Compressed += g.Compressed
}

// Shared is what equal files and pieces saved.
func (f Figures) Shared() int64 { return f.SharedFiles + f.SharedChunks }

// Layer says what a conversion made of one source: a layer of an image, a tar or a directory.
type Layer struct {
	Digest digest.Digest `json:"digest,omitempty"` // of the image's layer as it was read
	Blob   string        `json:"blob,omitempty"`   // ID of the layer's own blob, if it has new data
	Figures
	Frames    int     `json:"frames"`
	RawFrames int     `json:"raw_frames"` // frames that do not compress
	Ratio     float64 `json:"ratio"`      // Compressed / Input, 0 without input
}

// Result says what a conversion made.
type Result struct {
	Descriptor ocispec.Descriptor `json:"descriptor"` // the artifact's manifest
	Figures                       // of all layers
	Frames     int                `json:"frames"`
	RawFrames  int                `json:"raw_frames"`
	Layers     []Layer            `json:"layers"`
	Blobs      int                `json:"blobs"`          // in the artifact
	Borrowing  int                `json:"borrowed_blobs"` // of these, blobs of a dictionary
	MetaPlain  int64              `json:"meta_plain"`     // bytes of the metadata image
	Meta       int64              `json:"meta"`           // the same, compressed
	Maps       int64              `json:"maps"`           // bytes of the compressed maps of its own blobs
	Indexes    int64              `json:"indexes"`        // bytes of the compressed indexes of its own blobs, which only conversions read
	Stored     int64              `json:"stored"`         // bytes of the artifact in all, borrowed blobs left out
	Sent       int64              `json:"sent"`           // of these, bytes that the destination did not have
	Copied     int64              `json:"copied"`         // bytes of borrowed blobs that were copied to the destination
	Mounted    int64              `json:"mounted"`        // bytes of borrowed blobs that the registry took from another of its repositories
	Attached   int64              `json:"attached"`       // bytes sent to attached storage
	Ratio      float64            `json:"ratio"`          // Stored / Input, 0 without input
}

// complete computes what follows from the layers. Stored must be set.
func (r *Result) complete() {
	for i := range r.Layers {
		l := &r.Layers[i]
		l.Ratio = ratio(l.Compressed, l.Input)
		r.Add(l.Figures)
		r.Frames += l.Frames
		r.RawFrames += l.RawFrames
	}
	r.Ratio = ratio(r.Stored, r.Input)
}

func ratio(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}
