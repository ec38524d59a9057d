package convert

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/mkfs"
	"github.com/pagein/pagein/oci/artifact"
)

// Options of a conversion. The zero value is useful. All but TempDir, Note, TarSize and Progress shape the result.
type Options struct {
	Platform *ocispec.Platform     // which image of an index; nil means Linux on this machine's architecture
	Blob     blob.WriterOptions    // how frames are cut
	Order    mkfs.Order            // of the data in each blob
	Dict     *Dictionary           // blobs of earlier artifacts that may be borrowed from; nil means none
	TempDir  string                // for blobs until they are pushed, "" means the system's directory
	Attached artifact.Attachment   // where the data goes besides, or instead of, the destination; nil for the destination only
	Keep     bool                  // with Attached: the data goes to the destination too
	After    *artifact.Predecessor // the newest artifact of the image until now, if it is to be replaced
	Note     func(string)          // told what was left out or looks odd
	TarSize  int64                 // bytes of a tar as it is read, for Progress; 0 if unknown
	Progress func(Progress)        // told now and then how far it is

	// Ready, unless nil, is called when all but the manifest is pushed, see [artifact.Contents].
	Ready func(ctx context.Context, manifest ocispec.Descriptor) error
}

// Progress says how far a conversion is. First Read of Total bytes of the sources are read, then Verified of ToVerify bytes of dictionaries, which may be none,
// and when Pushing is true, Sent of ToSend bytes are with the destination.
type Progress struct {
	Layer, Layers int   // which of how many sources is being read, from 1
	Read, Total   int64 // bytes of all sources, for a directory those of files with data; Total is 0 if unknown
	Files         int64 // files with data that were met
	Verified      int64 // bytes that are borrowed
	ToVerify      int64 // 0 until all sources are read
	Pushing       bool  // everything is read
	Sent, ToSend  int64 // bytes of the artifact
}
