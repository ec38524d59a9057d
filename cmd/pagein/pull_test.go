package main

import (
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/snapshotter/imagestore"
)

func TestPullSaysWhatToDoAboutImagesThatAreUnpacked(t *testing.T) {
	here, lazy := []imagestore.Layer{{Content: true}}, []imagestore.Layer{{}}
	for name, c := range map[string]struct {
		pulled imagestore.Pulled
		reason *control.Unpacked
		want   string // "" for an image that is not unpacked
	}{
		"lazy":                              {imagestore.Pulled{Layers: lazy, Mounted: true}, nil, ""},
		"lazy, with its layers":             {imagestore.Pulled{Layers: here, Mounted: true}, nil, ""},
		"upon a lazy one":                   {imagestore.Pulled{Layers: append(lazy, here...)}, nil, ""},
		"without layers":                    {imagestore.Pulled{}, nil, ""},
		"by an earlier pull of who knows":   {imagestore.Pulled{Layers: here}, nil, "It was unpacked earlier, as any other image: remove it (RM) and pull it again."},
		"by this pull, and nobody says why": {imagestore.Pulled{Layers: here, Fetched: 1}, nil, "the log of pageind says why"},
		"by this pull":                      {imagestore.Pulled{Layers: here, Fetched: 1}, &control.Unpacked{Reason: "not trusted", At: time.Now()}, "as any other image: not trusted\nIt stays so until it is removed: once that is cured, do so (RM)"},
		"by an earlier pull":                {imagestore.Pulled{Layers: here}, &control.Unpacked{Reason: "not trusted", At: time.Now().Add(-time.Minute)}, "as any other image on "},
	} {
		p := pullSummary{Pulled: &c.pulled, Unpacked: c.reason}
		if p.unpacked() != (c.want != "") {
			t.Errorf("%s: unpacked is %v", name, p.unpacked())
		}
		if got := unpackedWords(p, time.Second, "RM"); !strings.Contains(got, c.want) {
			t.Errorf("%s: it says %s", name, got)
		}
	}
}
