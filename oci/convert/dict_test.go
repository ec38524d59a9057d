package convert_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/convert"
	"github.com/pagein/pagein/oci/layout"
	"github.com/pagein/pagein/oci/registry/registrytest"
)

// words fills a string that compresses like text.
func words(rng *rand.Rand, size int) string {
	var b strings.Builder
	for b.Len() < size {
		fmt.Fprintf(&b, "%x word%d ", rng.Uint32(), rng.IntN(100))
	}
	return b.String()[:size]
}

// versionedTree is a directory with 200 small files and one of 4 MiB. Of each version, a tenth is its own.
func versionedTree(t testing.TB, version uint64) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, body string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 200 {
		seed := uint64(0)
		if i%10 == 0 {
			seed = version
		}
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		write(fmt.Sprintf("dir%d/file%d", i%7, i), words(rng, 600+rng.IntN(30_000)))
	}
	big := words(rand.New(rand.NewPCG(0, 1000)), 4<<20)
	at := 1<<20 + int(version)
	write("big", big[:at]+words(rand.New(rand.NewPCG(version, 1)), 300_000)+big[at+300_000:])
	return dir
}

// dictionary loads artifacts of one place to borrow from.
func dictionary(t testing.TB, place artifact.Place, notes *[]string, descs ...ocispec.Descriptor) *convert.Dictionary {
	t.Helper()
	var lenders []convert.Lender
	for i, desc := range descs {
		a, err := artifact.Load(context.Background(), place.Target(), desc, fmt.Sprintf("dictionary %d", i))
		if err != nil {
			t.Fatal(err)
		}
		lenders = append(lenders, convert.Lender{Place: place, Artifact: a})
	}
	d, err := convert.LoadDictionary(context.Background(), t.TempDir(), func(s string) {
		if notes != nil {
			*notes = append(*notes, s)
		}
	}, lenders...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func convertDir(t testing.TB, dir string, dst content.Storage, o convert.Options) convert.Result {
	t.Helper()
	r, err := convert.Dir(context.Background(), dir, dst, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestASecondVersionStoresWhatChanged(t *testing.T) {
	l := newLayout(t)
	place := artifact.Place{Layout: l}
	v1, v2 := versionedTree(t, 1), versionedTree(t, 2)
	first := convertDir(t, v1, l, convert.Options{})
	full := convertDir(t, v2, newLayout(t), convert.Options{})
	var verified []convert.Progress
	second := convertDir(t, v2, l, convert.Options{Dict: dictionary(t, place, nil, first.Descriptor), Progress: func(p convert.Progress) {
		if p.ToVerify > 0 && !p.Pushing {
			verified = append(verified, p)
		}
	}})
	sameTree(t, open(t, l, second.Descriptor), os.DirFS(v2))
	if n := len(verified); n < 100 || verified[n-1].Verified != verified[n-1].ToVerify || verified[n-1].ToVerify > second.Borrowed*2 {
		t.Errorf("verification was reported %d times", n)
	}
	if float64(second.Sent) > 0.25*float64(full.Sent) || second.Stored != second.Sent || second.Copied != 0 || second.Mounted != 0 {
		t.Errorf("the second version sent %d bytes, a full conversion %d; %+v", second.Sent, full.Sent, second)
	}
	if second.Borrowing != 1 || second.Blobs != 2 || second.Borrowed < second.Data*8/10 ||
		second.Data != second.Inlined+second.Shared()+second.Borrowed+second.Unique {
		t.Errorf("figures are %+v", second.Figures)
	}

	// The second version knows all that the first one lent it.
	v3 := versionedTree(t, 3)
	third := convertDir(t, v3, l, convert.Options{Dict: dictionary(t, place, nil, second.Descriptor)})
	sameTree(t, open(t, l, third.Descriptor), os.DirFS(v3))
	if third.Borrowed < third.Data*8/10 {
		t.Errorf("figures of the third version are %+v", third.Figures)
	}
	a, err := artifact.Load(context.Background(), l, third.Descriptor, "third")
	if err != nil {
		t.Fatal(err)
	}
	depths := map[int]int{}
	for _, b := range a.Blobs {
		depths[b.Depth]++
	}
	if depths[0] != 1 || depths[2] != 1 {
		t.Errorf("blobs of the third version have depths %v", depths)
	}
}

func TestTheSameDictionaryGivesTheSameArtifact(t *testing.T) {
	l := newLayout(t)
	place := artifact.Place{Layout: l}
	first, other := convertDir(t, versionedTree(t, 1), l, convert.Options{}), convertDir(t, versionedTree(t, 2), l, convert.Options{})
	v3 := versionedTree(t, 3)
	var made []string
	for range 2 {
		d := dictionary(t, place, nil, first.Descriptor, other.Descriptor, first.Descriptor)
		made = append(made, convertDir(t, v3, l, convert.Options{Dict: d}).Descriptor.Digest.String())
	}
	if made[0] != made[1] {
		t.Errorf("made %q", made)
	}
}

func TestADictionaryWithNothingInCommonChangesNothing(t *testing.T) {
	l := newLayout(t)
	lonely := t.TempDir()
	if err := os.WriteFile(filepath.Join(lonely, "file"), []byte(strings.Repeat("other ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	dict := convertDir(t, lonely, l, convert.Options{})
	tree := versionedTree(t, 1)
	without := convertDir(t, tree, l, convert.Options{})
	with := convertDir(t, tree, l, convert.Options{Dict: dictionary(t, artifact.Place{Layout: l}, nil, dict.Descriptor)})
	if with.Descriptor.Digest != without.Descriptor.Digest || with.Borrowing != 0 {
		t.Errorf("with it %+v, without %+v", with, without)
	}
}

func TestBlobsAreBorrowedSixteenTimesAndThenStoredAnew(t *testing.T) {
	l, dir := newLayout(t), sourceTree(t)
	place := artifact.Place{Layout: l}
	last := convertDir(t, dir, l, convert.Options{})
	for i := range artifact.MaxDepth + 2 {
		if err := os.WriteFile(filepath.Join(dir, "version"), []byte(strings.Repeat(fmt.Sprint(i, " "), 2000)), 0o600); err != nil {
			t.Fatal(err)
		}
		var notes []string
		r := convertDir(t, dir, l, convert.Options{Dict: dictionary(t, place, &notes, last.Descriptor)})
		sameTree(t, open(t, l, r.Descriptor), os.DirFS(dir))
		anew := i == artifact.MaxDepth
		if got := r.Unique > 100_000; got != anew || (len(notes) > 0) != anew {
			t.Errorf("artifact %d stores %d bytes; notes %q", i+1, r.Unique, notes)
		}
		last = r
	}
}

// lyingDictionary stores the first version with an index that puts two small files in each other's place.
func lyingDictionary(t *testing.T, l *layout.Store, desc ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	ctx := context.Background()
	a, err := artifact.Load(ctx, l, desc, "honest")
	if err != nil {
		t.Fatal(err)
	}
	m, err := a.FetchMap(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	honest, err := a.FetchIndex(ctx, 0, m)
	if err != nil {
		t.Fatal(err)
	}
	var units []blob.Unit
	for i := range honest.Units() {
		units = append(units, honest.Unit(i))
	}
	swapped := false
	for i := range units {
		for j := range i {
			if !swapped && units[i].Size == units[j].Size {
				units[i].Digest, units[j].Digest, swapped = units[j].Digest, units[i].Digest, true
			}
		}
	}
	lie, err := blob.NewIndex(units)
	if err != nil || !swapped {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := z.EncodeAll(lie.Bytes(), nil)
	index := content.NewDescriptorFromBytes(artifact.MediaTypeIndex, packed)
	push(t, l, index, packed)

	var manifest ocispec.Manifest
	var config artifact.Config
	fetchJSON(t, l, desc, &manifest)
	fetchJSON(t, l, manifest.Config, &config)
	for i, d := range manifest.Layers {
		if d.Digest == config.Blobs[0].Index {
			manifest.Layers[i] = index
		}
	}
	config.Blobs[0].Index = index.Digest
	manifest.Config = pushJSON(t, l, artifact.MediaTypeConfig, config)
	return pushJSON(t, l, ocispec.MediaTypeImageManifest, manifest)
}

func fetchJSON(t *testing.T, src content.Fetcher, desc ocispec.Descriptor, v any) {
	t.Helper()
	b, err := content.FetchAll(context.Background(), src, desc)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestADictionaryThatLiesIsFoundOut(t *testing.T) {
	l, v1 := newLayout(t), versionedTree(t, 1)
	lie := lyingDictionary(t, l, convertDir(t, v1, l, convert.Options{}).Descriptor)
	dst := newLayout(t)
	_, err := convert.Dir(context.Background(), v1, dst, convert.Options{Dict: dictionary(t, artifact.Place{Layout: l}, nil, lie)})
	if err == nil || !strings.Contains(err.Error(), "the index says") || !strings.Contains(err.Error(), "dictionary 0") {
		t.Errorf("error is %v", err)
	}
	if left, err := fs.Glob(os.DirFS(dst.Dir()), "blobs/sha256/*"); err != nil || len(left) > 0 {
		t.Errorf("pushed %q, %v", left, err)
	}
}

func TestBorrowedBlobsAreServedByEveryRegistry(t *testing.T) {
	for name, start := range registries {
		t.Run(name, func(t *testing.T) {
			ctx, addr := context.Background(), start(t)
			client := registrytest.Client(t)
			place := func(s string) artifact.Place {
				p, err := artifact.Open(client, reference(t, addr+s))
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			base, app := place("/base:v1"), place("/team/app:v1")
			first := convertDir(t, versionedTree(t, 1), base.Repository, convert.Options{})
			v2 := versionedTree(t, 2)
			second := convertDir(t, v2, app.Repository, convert.Options{Dict: dictionary(t, base, nil, first.Descriptor)})
			if name == "distribution" && second.Mounted == 0 || second.Copied != 0 {
				t.Errorf("mounted %d, copied %d", second.Mounted, second.Copied)
			}
			sameTree(t, open(t, app.Repository, second.Descriptor), os.DirFS(v2))
			a, err := artifact.Load(ctx, app.Repository, second.Descriptor, "second")
			if err != nil {
				t.Fatal(err)
			}
			readFrames(t, app.Repository, a)

			l := newLayout(t)
			third := convertDir(t, v2, l, convert.Options{Dict: dictionary(t, app, nil, second.Descriptor)})
			if third.Copied == 0 || third.Unique != 0 {
				t.Errorf("a layout got %d bytes of borrowed blobs, and stored %d", third.Copied, third.Unique)
			}
			sameTree(t, open(t, l, third.Descriptor), os.DirFS(v2))
		})
	}
}

func TestImagesBorrowLayerByLayer(t *testing.T) {
	ctx, l := context.Background(), newLayout(t)
	first, err := convert.Image(ctx, l, pushImage(t, l, layersOfApp(t)...), l, convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	layers := append(layersOfApp(t), gzipLayer(t, tarOf(t, entry{name: "more", body: strings.Repeat("more ", 1000)})))
	d := dictionary(t, artifact.Place{Layout: l}, nil, first.Descriptor)
	second, err := convert.Image(ctx, l, pushImage(t, l, layers...), l, convert.Options{Dict: d})
	if err != nil {
		t.Fatal(err)
	}
	if second.Borrowing != first.Blobs || second.Unique != 5000 || len(second.Layers) != len(layers) || second.Layers[len(layers)-1].Unique != 5000 {
		t.Errorf("figures are %+v", second)
	}
	plain, err := convert.Image(ctx, l, pushImage(t, l, layers...), newLayout(t), convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var sum convert.Figures
	for _, x := range plain.Layers {
		sum.Add(x.Figures)
	}
	if sum != plain.Figures {
		t.Errorf("the layers' figures add up to %+v, not %+v", sum, plain.Figures)
	}
}

// TestDictionaryMemory holds the package to what it states: bytes for each piece.
func TestDictionaryMemory(t *testing.T) {
	if got := convert.PieceSize; got > 44 {
		t.Errorf("a piece takes %d bytes", got)
	}
	l := newLayout(t)
	r := convertDir(t, versionedTree(t, 1), l, convert.Options{})
	d := dictionary(t, artifact.Place{Layout: l}, nil, r.Descriptor)
	if n := d.Pieces(); n < 200 || n > 300 {
		t.Errorf("the dictionary knows %d pieces of 200 small files and 32 chunks", n)
	}
	if _, _, ok := d.Find([32]byte(bytes.Repeat([]byte{255}, 32)), 4096); ok {
		t.Error("what nobody stored is found")
	}
}
