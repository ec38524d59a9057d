package convert_test

import (
	"bytes"
	"context"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/convert"
)

// TestBordersOfDevicesAreNeverTakenForContinuations changes the first part of the first file of a blob, which puts the new part where the old one was, on
// another device, and so at the block before the rest of the old: Linux 6.1 and 6.12 would read on from the new part's device when these are block devices.
func TestBordersOfDevicesAreNeverTakenForContinuations(t *testing.T) {
	part := func(seed uint64) string { return words(rand.New(rand.NewPCG(seed, 9)), 128<<10) }
	one, two := part(1)+part(2)+part(3)+part(4), part(5)+part(6)+part(7)+part(8)
	ctx, l := context.Background(), newLayout(t)
	dict, err := convert.Image(ctx, l, pushImage(t, l, gzipLayer(t, tarOf(t, entry{name: "one", body: one}))), l, convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	bodies := map[string]string{"one": part(11) + one[128<<10:], "two": two, "three": part(12) + two[128<<10:]}
	layers := []testLayer{
		gzipLayer(t, tarOf(t, entry{name: "two", body: two})),
		gzipLayer(t, tarOf(t, entry{name: "three", body: bodies["three"]})),
		gzipLayer(t, tarOf(t, entry{name: "one", body: bodies["one"]})),
	}
	r, err := convert.Image(ctx, l, pushImage(t, l, layers...), l, convert.Options{Dict: dictionary(t, artifact.Place{Layout: l}, nil, dict.Descriptor)})
	if err != nil {
		t.Fatal(err)
	}
	fsys := open(t, l, r.Descriptor)
	for name, body := range bodies {
		got, err := fs.ReadFile(fsys, name)
		if err != nil || !bytes.Equal(got, []byte(body)) {
			t.Errorf("%s reads back differently (%v)", name, err)
		}
		extents, err := fsys.Extents(name)
		if err != nil {
			t.Fatal(err)
		}
		devices := map[uint16]bool{extents[0].Device: true}
		for i := 1; i < len(extents); i++ {
			a, b := extents[i-1], extents[i]
			if a.Device != b.Device && a.Block+uint64(a.Len/erofs.BlockSize) == b.Block {
				t.Errorf("%s: %+v ends at the block at which %+v begins on another device", name, a, b)
			}
			devices[b.Device] = true
		}
		if name != "two" && len(devices) < 2 {
			t.Errorf("%s lies on one device, so nothing is tried: %+v", name, extents)
		}
	}
	if want := int64(len(two) + 4*128<<10); r.Unique != want {
		t.Errorf("%d bytes are stored, want %d: each changed part and the one behind it", r.Unique, want)
	}
}
