package convert_test

import (
	"archive/tar"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/oci/convert"
)

// tangledLayers share files, and pieces of files, in every way that parallel reading could get wrong.
func tangledLayers(t testing.TB) []testLayer {
	random := rand.NewChaCha8([32]byte{7})
	bytes := func(n int) string {
		b := make([]byte, n)
		_, _ = random.Read(b) // cannot fail
		return string(b)
	}
	common, large := make([]string, 40), bytes(3<<20)
	for i := range common {
		common[i] = bytes(1000+i*1500) + strings.Repeat("text", i*100)
	}
	var layers []testLayer
	for n := range 6 {
		entries := []entry{{name: fmt.Sprintf("l%d/", n)}}
		for i, c := range common {
			entries = append(entries, entry{name: fmt.Sprintf("l%d/%d", n, (i*7+n)%len(common)), body: c}, entry{name: fmt.Sprintf("l%d/own%d", n, i), body: bytes(i * 300)})
		}
		shifted := large[:(n+1)*300_000] + bytes(200_000) + large[(n+1)*300_000:]
		entries = append(entries, entry{name: fmt.Sprintf("l%d/large", n), body: shifted}, entry{name: fmt.Sprintf("l%d/zeros", n), body: strings.Repeat("\x00", 700_000)},
			entry{name: fmt.Sprintf("l%d/link", n), kind: tar.TypeLink, link: fmt.Sprintf("l%d/large", n)})
		layers = append(layers, gzipLayer(t, tarOf(t, entries...)))
	}
	return layers
}

func TestTheSameImageGivesTheSameBytesHoweverManyWorkersThereAre(t *testing.T) {
	layers := tangledLayers(t)
	dirs, procs := []string{t.TempDir(), "/"}, []int{1, 2, 5}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var first ocispec.Descriptor
	for run := range 24 {
		runtime.GOMAXPROCS(procs[run%len(procs)])
		t.Chdir(dirs[run%len(dirs)])
		store := newLayout(t)
		src := pushImage(t, store, layers...)
		r, err := convert.Image(context.Background(), store, src, store, convert.Options{TempDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if run == 0 {
			first = r.Descriptor
			if r.SharedFiles == 0 || r.SharedChunks == 0 {
				t.Fatalf("nothing is shared, so nothing is tried: %+v", r)
			}
		}
		if !content.Equal(r.Descriptor, first) {
			t.Fatalf("run %d with %d workers gives %s, the first one %s", run, runtime.GOMAXPROCS(0), r.Descriptor.Digest, first.Digest)
		}
	}
}

func TestFiguresAccountForEveryByte(t *testing.T) {
	store := newLayout(t)
	r, err := convert.Image(context.Background(), store, pushImage(t, store, tangledLayers(t)...), store, convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var sum convert.Figures
	for _, l := range r.Layers {
		f := l.Figures
		if got := f.Inlined + f.SharedFiles + f.SharedChunks + f.Borrowed + f.Unique; got != f.Data {
			t.Errorf("%+v: the parts are %d bytes together", f, got)
		}
		sum.Add(f)
	}
	if sum != r.Figures {
		t.Errorf("the layers make %+v, the image %+v", sum, r.Figures)
	}
}

// TestBlobsDependOnNothingAbove converts ever more layers of an image whose layers are read at the same time and have much in common.
func TestBlobsDependOnNothingAbove(t *testing.T) {
	layers := tangledLayers(t)
	var all []string // blobs of the whole image
	for n := len(layers); n > 0; n-- {
		store := newLayout(t)
		r, err := convert.Image(context.Background(), store, pushImage(t, store, layers[:n]...), store, convert.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var blobs []string
		for _, l := range r.Layers {
			blobs = append(blobs, l.Blob)
		}
		if all == nil {
			all = blobs
		}
		if !slices.Equal(blobs, all[:n]) {
			t.Errorf("the lowest %d layers give blobs %q, below others they gave %q", n, blobs, all[:n])
		}
	}
}
