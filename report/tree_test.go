package report

import (
	"testing"

	"github.com/pagein/pagein/profile"
)

// TestFilesWithoutDataInBlobsCount has a small file, which lies in the metadata image.
func TestFilesWithoutDataInBlobsCount(t *testing.T) {
	tree := &Tree{Files: []File{{"/bin/app", 8192, 8192}, {"/etc/passwd", 0, 700}}}
	p := &profile.Profile{Entries: []profile.Entry{{Path: "/bin/app", Len: 4096, Kind: profile.KindRead}, {Path: "/etc/passwd", Size: 700, Len: 4096, Kind: profile.KindRead}}}
	r := Make(Input{Profile: p, Tree: tree})
	if i := r.Image; i.Read != 2 || i.Files != 2 || len(r.Files) != 2 || i.Bytes != 8192 || i.ReadBytes != 4096 {
		t.Errorf("%+v of %+v", i, r.Files)
	}
	if f := r.Files[1]; f.Path != "/etc/passwd" || f.Size != 700 || f.Read != 700 {
		t.Errorf("the small file: %+v", f)
	}
}
