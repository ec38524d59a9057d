package convert_test

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/oci/convert"
)

// generatedImage is an image whose layers are made while they are read, so that they take no memory. Its files are of all sizes, and none
// are equal.
type generatedImage struct {
	layers, files int   // per layer
	bytes         int64 // per layer
	small         map[digest.Digest][]byte
	streams       map[digest.Digest]int
}

// write makes the tar of a layer.
func (g *generatedImage) write(w io.Writer, layer int) error {
	buffered := bufio.NewWriterSize(w, 1<<20)
	t := tar.NewWriter(buffered)
	random := rand.NewChaCha8([32]byte{byte(layer)})
	data := make([]byte, 64<<10)
	left := g.bytes
	for i := range g.files {
		size := int64(i%12) << 10 // what most files have
		if i%64 == 63 {           // and what makes up most of the bytes
			size = max(size, left/int64(1+(g.files-i)/64))
		}
		left -= size
		h := tar.Header{Name: fmt.Sprintf("usr/share/layer-%d/directory-%03d/some-file-%06d.txt", layer, i/100, i), Mode: 0o644, Size: size}
		if err := t.WriteHeader(&h); err != nil {
			return err
		}
		for size > 0 {
			n := min(size, int64(len(data)))
			_, _ = random.Read(data[:n/2+1]) // cannot fail
			if _, err := t.Write(data[:n]); err != nil {
				return err
			}
			size -= n
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return buffered.Flush()
}

// manifest prepares the image to be fetched.
func (g *generatedImage) manifest() (ocispec.Descriptor, error) {
	g.small, g.streams = map[digest.Digest][]byte{}, map[digest.Digest]int{}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for i := range g.layers {
		h, n := sha256.New(), &countingWriter{}
		if err := g.write(io.MultiWriter(h, n), i); err != nil {
			return ocispec.Descriptor{}, err
		}
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.NewDigest(digest.SHA256, h), Size: n.n}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, desc.Digest)
		m.Layers, g.streams[desc.Digest] = append(m.Layers, desc), i
	}
	var err error
	if m.Config, err = g.add(ocispec.MediaTypeImageConfig, config); err != nil {
		return m.Config, err
	}
	return g.add(m.MediaType, m)
}

func (g *generatedImage) add(mediaType string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	desc := content.NewDescriptorFromBytes(mediaType, b)
	g.small[desc.Digest] = b
	return desc, err
}

// Fetch implements content.Fetcher.
func (g *generatedImage) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if b, ok := g.small[desc.Digest]; ok {
		return io.NopCloser(strings.NewReader(string(b))), nil
	}
	i, ok := g.streams[desc.Digest]
	if !ok {
		return nil, errdef.ErrNotFound
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(g.write(w, i)) }()
	return r, nil
}

type countingWriter struct{ n int64 }

func (c *countingWriter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// nowhere takes everything and keeps nothing.
type nowhere struct{ content.Storage }

func (nowhere) Exists(context.Context, ocispec.Descriptor) (bool, error) { return false, nil }

func (nowhere) Push(_ context.Context, _ ocispec.Descriptor, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// memoryTest is what the child process of the test below is told.
const memoryTest = "PAGEIN_TEST_GENERATED_IMAGE"

// TestMemoryIsBoundedWhateverTheImageHolds measures the peak of a process of its own. PAGEIN_LONG=1 takes an image of 4 GiB and 100,000 files.
func TestMemoryIsBoundedWhateverTheImageHolds(t *testing.T) {
	if size := os.Getenv(memoryTest); size != "" {
		convertGenerated(t, size)
		return
	}
	size, limit := "4 5000 268435456", 80 // MiB
	if os.Getenv("PAGEIN_LONG") != "" {
		size, limit = "4 25000 1073741824", 128
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestMemoryIsBoundedWhateverTheImageHolds$", "-test.v")
	cmd.Env = append(os.Environ(), memoryTest+"="+size, "GOMEMLIMIT=off", "GOGC=50") // as pagein convert sets it
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, after, found := strings.Cut(string(out), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(after + " ?")[0])
	if !found || err != nil {
		t.Fatalf("no figure in %s", out)
	}
	t.Logf("%s (layers, files and bytes in each): %d MiB", size, kib>>10)
	if kib>>10 > limit {
		t.Errorf("the process needed %d MiB, more than %d", kib>>10, limit)
	}
}

func convertGenerated(t *testing.T, size string) {
	var g generatedImage
	if _, err := fmt.Sscan(size, &g.layers, &g.files, &g.bytes); err != nil {
		t.Fatal(err)
	}
	desc, err := g.manifest()
	if err != nil {
		t.Fatal(err)
	}
	r, err := convert.Image(context.Background(), &g, desc, nowhere{}, convert.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if strings.HasPrefix(line, "VmHWM:") {
			fmt.Println(line)
		}
	}
}
