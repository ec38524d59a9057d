package convert_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/convert"
	"github.com/pagein/pagein/oci/image"
)

func TestDirectoryReadsBackEqual(t *testing.T) {
	dir, dst := sourceTree(t), newLayout(t)
	r, err := convert.Dir(context.Background(), dir, dst, convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sameTree(t, open(t, dst, r.Descriptor), os.DirFS(dir))
	if r.Blobs != 1 || r.SharedFiles != 3_200_000 || r.Input == 0 {
		t.Errorf("result is %+v", r)
	}
}

func TestRealTreeReadsBackEqual(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	root, err := exec.Command(require.Tool(t, "go"), "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir, dst := filepath.Join(strings.TrimSpace(string(root)), "src", "net"), newLayout(t)
	r, err := convert.Dir(context.Background(), dir, dst, convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sameTree(t, open(t, dst, r.Descriptor), os.DirFS(dir))
	t.Logf("%+v", r)
}

func TestTarReadsBackEqual(t *testing.T) {
	dst := newLayout(t)
	b := gzipped(t, tarOf(t, entry{name: "a/"}, entry{name: "a/b", body: "content"}, entry{name: "c", kind: tar.TypeSymlink, link: "a/b"}))
	r, err := convert.Tar(context.Background(), bytes.NewReader(b), dst, convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := fs.ReadFile(open(t, dst, r.Descriptor), "a/b")
	if err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
	if r.Input != int64(len(b)) {
		t.Errorf("input is %d bytes, want %d", r.Input, len(b))
	}
}

func layersOfApp(t testing.TB) []testLayer {
	big := strings.Repeat("library ", 30_000)
	return []testLayer{
		gzipLayer(t, tarOf(t, entry{name: "lib/"}, entry{name: "lib/a", body: big}, entry{name: "old/"}, entry{name: "old/x", body: "gone"}, entry{name: "gone", body: "gone"})),
		plainLayer(tarOf(t, entry{name: ".wh.gone"}, entry{name: "old/.wh..wh..opq"}, entry{name: "old/y", body: "new"}, entry{name: "lib/copy", body: big})),
		gzipLayer(t, tarOf(t, entry{name: "app", body: strings.Repeat("application ", 20_000)})),
	}
}

func TestImageIsFlattenedOneBlobForEachLayerWithNewData(t *testing.T) {
	ctx, src, dst := context.Background(), newLayout(t), newLayout(t)
	desc := pushImage(t, src, layersOfApp(t)...)
	r, err := convert.Image(ctx, src, desc, dst, convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	fsys := open(t, dst, r.Descriptor)
	if err := fstest.TestFS(fsys, "lib/a", "lib/copy", "old/y", "app"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"gone", "old/x", ".wh.gone", "old/.wh..wh..opq"} {
		if _, err := fs.Stat(fsys, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want that it does not exist", name, err)
		}
	}
	if len(r.Layers) != 3 || r.Blobs != 2 {
		t.Errorf("%d layers gave %d blobs, want 3 and 2: the second layer adds no data", len(r.Layers), r.Blobs)
	}
	a, err := artifact.Load(ctx, dst, r.Descriptor, "test")
	if err != nil {
		t.Fatal(err)
	}
	if a.Subject == nil || a.Subject.Digest != desc.Digest {
		t.Errorf("subject is %v, want the image's manifest", a.Subject)
	}
	img, err := image.Load(ctx, src, desc, nil)
	if err != nil {
		t.Fatal(err)
	}
	// A chain ID, as image-spec defines it: that of the first layer is its diff ID, and then the digest of the one below and the next diff ID.
	want := img.DiffIDs[:1:1]
	for _, d := range img.DiffIDs[1:] {
		want = append(want, digest.FromString(want[len(want)-1].String()+" "+d.String()))
	}
	if !slices.Equal(a.Chains, want) {
		t.Errorf("chain IDs are %v, want %v", a.Chains, want)
	}
}

func TestImagesThatShareBaseLayersShareBlobs(t *testing.T) {
	ctx, src, dst := context.Background(), newLayout(t), newLayout(t)
	base := layersOfApp(t)
	one, err := convert.Image(ctx, src, pushImage(t, src, base...), dst, convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	two, err := convert.Image(ctx, src, pushImage(t, src, append(base, plainLayer(tarOf(t, entry{name: "more", body: strings.Repeat("more", 5000)})))...), dst, convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := artifact.Load(ctx, dst, one.Descriptor, "one")
	if err != nil {
		t.Fatal(err)
	}
	b, err := artifact.Load(ctx, dst, two.Descriptor, "two")
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.Blobs {
		if a.Blobs[i].ID != b.Blobs[i].ID {
			t.Errorf("blob %d is %s in one image and %s in the other", i, a.Blobs[i].ID, b.Blobs[i].ID)
		}
	}
	if two.Sent >= two.Stored {
		t.Errorf("%d of %d bytes were sent although the destination had the shared blobs", two.Sent, two.Stored)
	}
}

func TestSameInputGivesTheSameArtifact(t *testing.T) {
	dir := sourceTree(t)
	src := newLayout(t)
	desc := pushImage(t, src, layersOfApp(t)...)
	digests := func() (dirDigest, imageDigest digest.Digest) {
		d, err := convert.Dir(context.Background(), dir, newLayout(t), convert.Options{})
		if err != nil {
			t.Fatal(err)
		}
		i, err := convert.Image(context.Background(), src, desc, newLayout(t), convert.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return d.Descriptor.Digest, i.Descriptor.Digest
	}
	procs := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(procs) })
	wantDir, wantImage := digests()
	for _, n := range []int{1, 2, 4} {
		runtime.GOMAXPROCS(n)
		if d, i := digests(); d != wantDir || i != wantImage {
			t.Errorf("with %d threads the artifacts are %s and %s, before they were %s and %s", n, d, i, wantDir, wantImage)
		}
	}
}

func TestCompressibleBlobObjectIsAZstdStream(t *testing.T) {
	zstd := require.Tool(t, "zstd")
	ctx, dst := context.Background(), newLayout(t)
	r, err := convert.Dir(ctx, sourceTree(t), dst, convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := artifact.Load(ctx, dst, r.Descriptor, "test")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(zstd, "-dc")
	object, err := dst.Fetch(ctx, a.Blobs[0].Sources[0])
	if err != nil {
		t.Fatal(err)
	}
	defer object.Close()
	cmd.Stdin = object
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if r.RawFrames != 0 || !bytes.Equal(out, decode(t, dst, a, 0)) {
		t.Errorf("zstd -d gives other bytes than the blob's; %d raw frames", r.RawFrames)
	}
}

func TestLyingImageIsRefusedAndNothingPushed(t *testing.T) {
	good := tarOf(t, entry{name: "a", body: strings.Repeat("good", 10_000)})
	evil := tarOf(t, entry{name: "a", body: strings.Repeat("evil", 10_000)})
	honest := gzipLayer(t, good)
	otherBytes := honest
	otherBytes.stored = gzipped(t, evil)
	otherBytes.desc.Size = int64(len(otherBytes.stored))
	otherDiffID := honest
	otherDiffID.diffID = digest.FromBytes(evil)
	truncated := honest
	truncated.stored = honest.stored[:len(honest.stored)/2]
	flipped := honest
	flipped.stored = bytes.Clone(honest.stored)
	flipped.stored[len(flipped.stored)/2] ^= 1
	longer := honest
	longer.stored = append(bytes.Clone(honest.stored), honest.stored...)
	zerosBehind := plainLayer(good)
	zerosBehind.stored = append(bytes.Clone(good), 0, 0)
	sameTarShorter := honest
	sameTarShorter.desc.Size++
	brokenTar := plainLayer(good[:len(good)-2000])
	notTar := plainLayer([]byte(strings.Repeat("not a tar", 1000)))
	dotDot := plainLayer(tarOf(t, entry{name: "../../etc/passwd", body: "x"}))
	wrongType := honest
	wrongType.desc.MediaType = "application/vnd.example.encrypted"
	for name, c := range map[string]struct {
		layer testLayer
		says  string
	}{
		"other bytes":        {otherBytes, "digest"},
		"other tar":          {otherDiffID, "diff ID"},
		"truncated":          {truncated, "unexpected EOF"},
		"flipped bit":        {flipped, "digest"},
		"longer":             {longer, "digest"},
		"zeros behind a tar": {zerosBehind, "more than the"},
		"same tar, shorter":  {sameTarShorter, "that the manifest promises"},
		"tar cut off":        {brokenTar, ""},
		"not a tar":          {notTar, ""},
		"leaves the tree":    {dotDot, ".."},
		"unknown media type": {wrongType, "no readable tar"},
	} {
		t.Run(name, func(t *testing.T) {
			src := &lyingStore{blobs: map[digest.Digest][]byte{}}
			desc := pushImage(t, src, honest, c.layer)
			dst := &pushCounter{Storage: newLayout(t)}
			r, err := convert.Image(context.Background(), src, desc, dst, convert.Options{})
			if err == nil {
				t.Fatalf("converted: %+v", r)
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.layer.desc.Digest.String()) && c.layer.desc.MediaType != wrongType.desc.MediaType {
				t.Errorf("error %q does not say %q and which layer", err, c.says)
			}
			if dst.pushed != 0 {
				t.Errorf("%d blobs were pushed", dst.pushed)
			}
		})
	}
}

// pushCounter counts what is pushed.
type pushCounter struct {
	content.Storage
	pushed int
}

func (p *pushCounter) Push(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	p.pushed++
	return p.Storage.Push(ctx, desc, r)
}

func TestIndexGivesTheImageForThePlatform(t *testing.T) {
	ctx, src := context.Background(), newLayout(t)
	named := func(s string) ocispec.Descriptor {
		return pushImage(t, src, plainLayer(tarOf(t, entry{name: "platform", body: s})))
	}
	with := func(d ocispec.Descriptor, p *ocispec.Platform) ocispec.Descriptor { d.Platform = p; return d }
	index := pushJSON(t, src, ocispec.MediaTypeImageIndex, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{
		with(named("attestation"), &ocispec.Platform{OS: "unknown", Architecture: "unknown"}),
		with(named("armv6"), &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}),
		with(named("armv7"), &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}),
		with(named("host"), &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}),
	}})
	for platform, want := range map[string]string{"": "host", "linux/arm/v7": "armv7", "linux/arm": "armv6", "linux/arm/v5": "", "windows/amd64": ""} {
		var o convert.Options
		if platform != "" {
			p, err := image.ParsePlatform(platform)
			if err != nil {
				t.Fatal(err)
			}
			o.Platform = p
		}
		dst := newLayout(t)
		r, err := convert.Image(ctx, src, index, dst, o)
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), "linux/arm/v6, linux/arm/v7, linux/"+runtime.GOARCH) {
				t.Errorf("%s: error is %v, want one that lists what there is", platform, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, err := fs.ReadFile(open(t, dst, r.Descriptor), "platform"); err != nil || string(got) != want {
			t.Errorf("%q gives %q, want %q (%v)", platform, got, want, err)
		}
	}
}

func TestCancelledConversionLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	errStop := errors.New("interrupted")
	temp, dst := t.TempDir(), &pushCounter{Storage: newLayout(t)}
	r := io.MultiReader(bytes.NewReader(tarOf(t, entry{name: "a", body: strings.Repeat("x", 100_000)})[:60_000]), readerFunc(func([]byte) (int, error) {
		cancel(errStop)
		<-ctx.Done()
		return 0, context.Cause(ctx)
	}))
	if _, err := convert.Tar(ctx, r, dst, convert.Options{TempDir: temp}); !errors.Is(err, errStop) && !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 || dst.pushed != 0 {
		t.Errorf("%d files and %d pushed blobs are left, %v", len(left), dst.pushed, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestProgressKnowsHowMuchOfASourceIsRead(t *testing.T) {
	var last convert.Progress
	o := convert.Options{Progress: func(p convert.Progress) { last = p }}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := convert.Dir(t.Context(), dir, newLayout(t), o); err != nil || last.Read != 100_000 || last.Total != 0 {
		t.Errorf("of a directory: %+v, %v", last, err)
	}
	stream := tarOf(t, entry{name: "f", body: "data"})
	o.TarSize = int64(len(stream))
	if _, err := convert.Tar(t.Context(), bytes.NewReader(stream), newLayout(t), o); err != nil || last.Read != o.TarSize || last.Total != o.TarSize {
		t.Errorf("of a tar of %d bytes: %+v, %v", o.TarSize, last, err)
	}
}

func TestConversionNeedsItsTempDir(t *testing.T) {
	_, err := convert.Dir(context.Background(), sourceTree(t), newLayout(t), convert.Options{TempDir: filepath.Join(t.TempDir(), "missing")})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}

func TestEmptyTreeIsAnArtifactWithoutBlobs(t *testing.T) {
	dst := newLayout(t)
	r, err := convert.Dir(context.Background(), t.TempDir(), dst, convert.Options{Blob: blob.WriterOptions{Workers: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if got := list(t, open(t, dst, r.Descriptor)); r.Blobs != 0 || len(got) != 1 {
		t.Errorf("%d blobs, %q", r.Blobs, got)
	}
}
