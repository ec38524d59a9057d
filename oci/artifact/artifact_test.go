package artifact

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/oci"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/errdef"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// plainMeta stands for a metadata image: this package does not look into it.
var plainMeta = bytes.Repeat([]byte("metadata"), 1024)

// sample returns contents with two blobs, the second of which has an index.
func sample(t testing.TB) Contents {
	t.Helper()
	c := Contents{Meta: bytes.NewReader(plainMeta), Size: int64(len(plainMeta))}
	for _, s := range []string{"first ", "second "} {
		var object bytes.Buffer
		w := blob.NewWriter(context.Background(), &object, blob.WriterOptions{LargeFrame: 1 << 20})
		data := strings.Repeat(s, 50_000)
		if _, err := w.Append(strings.NewReader(data), int64(len(data))); err != nil {
			t.Fatal(err)
		}
		m, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		c.Blobs = append(c.Blobs, BlobContents{Map: m, Object: bytes.NewReader(object.Bytes()), Digest: digest.FromBytes(object.Bytes())})
	}
	index, err := blob.NewIndex([]blob.Unit{{Digest: [32]byte{1}, Size: 8192, Block: 1}})
	if err != nil {
		t.Fatal(err)
	}
	c.Blobs[1].Index = index
	c.Subject = &ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("image"), Size: 1234,
		Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"},
	}
	c.Chains = []digest.Digest{digest.FromString("base"), digest.FromString("base and top")}
	return c
}

// pushed stores the sample.
func pushed(t testing.TB) (*memory.Store, Pushed) {
	t.Helper()
	store := memory.New()
	p, err := Push(context.Background(), store, sample(t))
	if err != nil {
		t.Fatal(err)
	}
	return store, p
}

func TestPushedArtifactLoads(t *testing.T) {
	ctx := context.Background()
	store, p := pushed(t)
	a, err := Load(ctx, store, p.Descriptor, "test")
	if err != nil {
		t.Fatal(err)
	}
	if a.MetaDigest != digest.FromBytes(plainMeta) || a.MetaSize != int64(len(plainMeta)) || len(a.Blobs) != 2 {
		t.Errorf("loaded %+v", a)
	}
	if a.Subject == nil || a.Subject.Digest != digest.FromString("image") || a.Subject.Platform != nil {
		t.Errorf("subject is %+v", a.Subject)
	}
	if !slices.Equal(a.Chains, sample(t).Chains) {
		t.Errorf("chain IDs are %v", a.Chains)
	}
	var meta bytes.Buffer
	if err := a.FetchMeta(ctx, &meta); err != nil || !bytes.Equal(meta.Bytes(), plainMeta) {
		t.Errorf("metadata image of %d bytes, %v", meta.Len(), err)
	}
	for i, b := range sample(t).Blobs {
		m, err := a.FetchMap(ctx, i)
		if err != nil {
			t.Fatal(err)
		}
		if m.ID() != b.Map.ID() || a.Blobs[i].ID != m.ID() || a.Blobs[i].Size != m.Size() || a.Blobs[i].Sources[0].Digest != b.Digest {
			t.Errorf("blob %d is %+v", i, a.Blobs[i])
		}
		index, err := a.FetchIndex(ctx, i, m)
		if err != nil || (index == nil) != (b.Index == nil) || index != nil && !bytes.Equal(index.Bytes(), b.Index.Bytes()) {
			t.Errorf("index of blob %d is %v, %v", i, index, err)
		}
	}
}

func TestGoldenManifestAndConfig(t *testing.T) {
	store, p := pushed(t)
	manifest := read(t, store, p.Descriptor)
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"manifest.json": manifest, "config.json": read(t, store, m.Config)} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
	}
}

func read(t testing.TB, src content.Fetcher, desc ocispec.Descriptor) []byte {
	t.Helper()
	b, err := fetchAll(context.Background(), src, desc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSecondPushSendsNothing(t *testing.T) {
	store, first := pushed(t)
	again, err := Push(context.Background(), store, sample(t))
	if err != nil {
		t.Fatal(err)
	}
	if again.Sent != 0 || again.Stored != first.Stored || first.Sent != first.Stored || again.Descriptor.Digest != first.Descriptor.Digest {
		t.Errorf("first %+v, then %+v", first, again)
	}
}

func TestSomethingElseIsNoArtifactAndSaysWhatToDo(t *testing.T) {
	ctx, store := context.Background(), memory.New()
	manifest := func(m ocispec.Manifest) ocispec.Descriptor {
		m.Versioned, m.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageManifest
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		desc := content.NewDescriptorFromBytes(m.MediaType, b)
		if err := store.Push(ctx, desc, bytes.NewReader(b)); err != nil && !errors.Is(err, errdef.ErrNotFound) {
			t.Fatal(err)
		}
		return desc
	}
	config := content.NewDescriptorFromBytes(ocispec.MediaTypeImageConfig, []byte("{}"))
	if err := store.Push(ctx, config, strings.NewReader("{}")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		desc ocispec.Descriptor
		says string
	}{
		"image":          {manifest(ocispec.Manifest{Config: config}), ocispec.MediaTypeImageConfig},
		"other artifact": {manifest(ocispec.Manifest{Config: config, ArtifactType: "application/vnd.example"}), "application/vnd.example"},
		"index":          {ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex}, ocispec.MediaTypeImageIndex},
		"Docker image":   {ocispec.Descriptor{MediaType: "application/vnd.docker.distribution.manifest.v2+json"}, "docker"},
	} {
		_, err := Load(ctx, store, c.desc, "localhost/app:v1")
		if !errors.Is(err, ErrNotArtifact) || !strings.Contains(err.Error(), c.says) ||
			!strings.HasPrefix(err.Error(), "localhost/app:v1 is not a pagein artifact (") || !strings.HasSuffix(err.Error(), "run pagein convert") {
			t.Errorf("%s: error is %q", name, err)
		}
	}
}

// lies is a store in which single blobs can be replaced.
type lies map[digest.Digest][]byte

func (l lies) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	b, ok := l[desc.Digest]
	if !ok {
		return nil, errdef.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// add stores b under its own digest.
func (l lies) add(mediaType string, b []byte) ocispec.Descriptor {
	desc := content.NewDescriptorFromBytes(mediaType, b)
	l[desc.Digest] = b
	return desc
}

// forge builds an artifact whose manifest and config were changed on purpose, with correct digests.
func forge(t *testing.T, change func(l lies, m *ocispec.Manifest, c *Config)) (lies, ocispec.Descriptor) {
	t.Helper()
	store, p := pushed(t)
	l := lies{}
	var m ocispec.Manifest
	if err := json.Unmarshal(read(t, store, p.Descriptor), &m); err != nil {
		t.Fatal(err)
	}
	var c Config
	if err := json.Unmarshal(read(t, store, m.Config), &c); err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Layers {
		l.add(d.MediaType, read(t, store, d))
	}
	m.Config.Data = nil
	config := m.Config
	change(l, &m, &c)
	if m.Config.Digest == config.Digest {
		m.Config = l.add(m.Config.MediaType, marshal(t, c))
	}
	return l, l.add(ocispec.MediaTypeImageManifest, marshal(t, m))
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHostileArtifactIsRefused(t *testing.T) {
	other := digest.FromString("other")
	for name, c := range map[string]struct {
		change func(l lies, m *ocispec.Manifest, c *Config)
		says   string
	}{
		"newer version":       {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Version = 2 }, "newer pagein"},
		"meta digest":         {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Meta.Digest = "sha256:1" }, "no SHA-256"},
		"meta size zero":      {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Meta.Size = 0 }, "size 0"},
		"meta size absurd":    {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Meta.Size = 1 << 62 }, "size"},
		"meta size odd":       {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Meta.Size++ }, "multiple"},
		"meta layer missing":  {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Meta.Layer = other }, "no layer"},
		"meta layer is a map": {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Meta.Layer = c.Blobs[0].Map }, "is of type"},
		"blob ID upper case":  {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[0].ID = strings.Repeat("A", 64) }, "hex"},
		"blob ID a path":      {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[0].ID = strings.Repeat("../", 21) + "x" }, "hex"},
		"blob ID short":       {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[0].ID = "abcd" }, "hex"},
		"blob twice":          {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[1] = c.Blobs[0] }, "twice"},
		"blob size negative":  {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[0].Size = -4096 }, "size"},
		"blob size absurd":    {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[0].Size = 1 << 60 }, "size"},
		"map size absurd":     {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[0].MapSize = 1 << 40 }, "map size"},
		"map layer missing":   {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[0].Map = other }, "no layer"},
		"no sources":          {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[0].Sources = nil }, "source objects"},
		"source missing":      {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[0].Sources[0] = other }, "no layer"},
		"source is meta":      {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[0].Sources[0] = c.Meta.Layer }, "is of type"},
		"layer twice":         {func(_ lies, m *ocispec.Manifest, _ *Config) { m.Layers = append(m.Layers, m.Layers[0]) }, "twice"},
		"layer digest":        {func(_ lies, m *ocispec.Manifest, _ *Config) { m.Layers[0].Digest = "sha256:../../x" }, "digest"},
		"layer size":          {func(_ lies, m *ocispec.Manifest, _ *Config) { m.Layers[0].Size = -1 }, "size is -1"},
		"config type":         {func(_ lies, m *ocispec.Manifest, _ *Config) { m.Config.MediaType = "text/plain" }, "is of type"},
		"config absurd":       {func(_ lies, m *ocispec.Manifest, _ *Config) { m.Config.Digest, m.Config.Size = other, 1<<40 }, "at most"},
		"config missing":      {func(_ lies, m *ocispec.Manifest, _ *Config) { m.Config.Digest = other }, "not found"},
		"config is not JSON":  {func(l lies, m *ocispec.Manifest, _ *Config) { m.Config = l.add(MediaTypeConfig, []byte("{}{}")) }, "config"},
		"config of other digest": {func(l lies, m *ocispec.Manifest, _ *Config) {
			m.Config.Digest = other
			l[other] = make([]byte, m.Config.Size)
		}, "digest"},
		"index missing":         {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[1].Index = other }, "no layer"},
		"index is a map":        {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[1].Index = c.Blobs[1].Map }, "is of type"},
		"index without a size":  {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[1].IndexSize = 0 }, "index size 0"},
		"size without an index": {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[0].IndexSize = 64 }, "index size 64"},
		"index size absurd":     {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[1].IndexSize = 1 << 40 }, "index size"},
		"chain ID no digest":    {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Chains[1] = "sha256:../x" }, "chain IDs: 1"},
		"same chain ID twice":   {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Chains[1] = c.Chains[0] }, "occurs twice"},
		"endless chain":         {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Chains = make([]digest.Digest, 1001) }, "at most 1000 layers"},
		"no base":               {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Base = "x" }, "base"},
		"hot negative":          {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[0].Hot = -1 }, "had first"},
		"hot beyond the blob":   {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[0].Hot = c.Blobs[0].Size + 1 }, "had first"},
		"negative depth":        {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[0].Depth = -1 }, "at most 16"},
		"too deep":              {func(_ lies, _ *ocispec.Manifest, c *Config) { c.Blobs[0].Depth = MaxDepth + 1 }, "through 17 artifacts"},
		"other config contained": {func(l lies, m *ocispec.Manifest, c *Config) {
			c.Chains = nil
			m.Config = l.add(MediaTypeConfig, marshal(t, *c))
			m.Config.Data = bytes.Replace(l[m.Config.Digest], []byte(`"version":1`), []byte(`"version":2`), 1)
		}, "contains it"},
		"calls itself otherwise": {func(_ lies, m *ocispec.Manifest, _ *Config) { m.MediaType = ocispec.MediaTypeImageIndex }, "calls itself"},
	} {
		t.Run(name, func(t *testing.T) {
			src, desc := forge(t, c.change)
			if _, err := Load(context.Background(), src, desc, "test"); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %v, want one that says %q", err, c.says)
			}
		})
	}
}

func TestWrongMetaOrMapIsNotGivenOut(t *testing.T) {
	packed := func(b []byte) []byte {
		p, err := pack(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	replace := func(l lies, m *ocispec.Manifest, at int, b []byte) digest.Digest {
		m.Layers[at] = l.add(m.Layers[at].MediaType, b)
		return m.Layers[at].Digest
	}
	const meta, firstMap = 0, 2 // places in the manifest
	otherMap := sample(t).Blobs[1].Map
	big, err := zstd.NewWriter(nil, zstd.WithWindowSize(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	bigWindow := big.EncodeAll(make([]byte, 128<<20), nil)
	for name, c := range map[string]struct {
		change func(l lies, m *ocispec.Manifest, c *Config)
		says   string
	}{
		"meta of other bytes": {func(l lies, m *ocispec.Manifest, c *Config) {
			c.Meta.Layer = replace(l, m, meta, packed(make([]byte, len(plainMeta))))
		}, "SHA-256"},
		"meta longer": {func(l lies, m *ocispec.Manifest, c *Config) {
			c.Meta.Layer = replace(l, m, meta, packed(append(bytes.Clone(plainMeta), 0)))
		}, "there are more"},
		"meta shorter": {func(l lies, m *ocispec.Manifest, c *Config) {
			c.Meta.Layer = replace(l, m, meta, packed(plainMeta[1:]))
		}, "there are 8191"},
		"meta bomb": {func(l lies, m *ocispec.Manifest, c *Config) {
			c.Meta.Layer = replace(l, m, meta, packed(make([]byte, 64<<20)))
		}, "there are more"},
		"meta with a huge window": {func(l lies, m *ocispec.Manifest, c *Config) {
			c.Meta.Layer = replace(l, m, meta, bigWindow)
		}, "window"},
		"meta not zstd": {func(l lies, m *ocispec.Manifest, c *Config) {
			c.Meta.Layer = replace(l, m, meta, plainMeta)
		}, "decompress"},
		"meta of other compressed bytes": {func(l lies, m *ocispec.Manifest, _ *Config) {
			l[m.Layers[meta].Digest] = append(bytes.Clone(l[m.Layers[meta].Digest]), "trailing"...)
		}, ""},
		"meta truncated": {func(l lies, m *ocispec.Manifest, _ *Config) {
			l[m.Layers[meta].Digest] = l[m.Layers[meta].Digest][:20]
		}, ""},
		"meta of damaged bytes": {func(l lies, m *ocispec.Manifest, _ *Config) {
			b := bytes.Clone(l[m.Layers[meta].Digest])
			for i := 10; i < len(b); i++ { // behind the header of the frame
				b[i] ^= 0xff
			}
			l[m.Layers[meta].Digest] = b
		}, "the bytes are not those of the digest"},
		"meta gone": {func(l lies, m *ocispec.Manifest, _ *Config) { delete(l, m.Layers[meta].Digest) }, "not found"},
		"other map": {func(l lies, m *ocispec.Manifest, c *Config) {
			c.Blobs[0].Map = m.Layers[firstMap+2].Digest
		}, "SHA-256"},
		"map of other size": {func(l lies, m *ocispec.Manifest, c *Config) {
			c.Blobs[0].Map, c.Blobs[0].ID, c.Blobs[0].Size, c.Blobs = m.Layers[firstMap+2].Digest, otherMap.ID(), 4096, c.Blobs[:1]
			c.Blobs[0].MapSize = int64(len(otherMap.Bytes()))
		}, "the config says"},
		"map of another object": {func(l lies, m *ocispec.Manifest, c *Config) {
			c.Blobs[0].Map, c.Blobs[0].ID, c.Blobs[0].Size, c.Blobs = m.Layers[firstMap+2].Digest, otherMap.ID(), otherMap.Size(), c.Blobs[:1]
			c.Blobs[0].MapSize = int64(len(otherMap.Bytes()))
		}, "the manifest says"},
		"no map at all": {func(l lies, m *ocispec.Manifest, c *Config) {
			junk := bytes.Repeat([]byte("junk"), 100)
			c.Blobs[0].Map = replace(l, m, firstMap, packed(junk))
			c.Blobs[0].ID, c.Blobs[0].MapSize = digest.FromBytes(junk).Encoded(), int64(len(junk))
		}, "parse blob map"},
	} {
		t.Run(name, func(t *testing.T) {
			src, desc := forge(t, c.change)
			a, err := Load(context.Background(), src, desc, "test")
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(name, "meta") {
				err = a.FetchMeta(context.Background(), io.Discard)
			} else {
				_, err = a.FetchMap(context.Background(), 0)
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %v, want one that says %q", err, c.says)
			}
		})
	}
}

func TestWrongIndexIsNotGivenOut(t *testing.T) {
	units := func(units ...blob.Unit) []byte {
		x, err := blob.NewIndex(units)
		if err != nil {
			t.Fatal(err)
		}
		return x.Bytes()
	}
	const index = 5 // place in the manifest
	for name, c := range map[string]struct {
		plain  []byte
		change func(c *Config)
		says   string
	}{
		"longer than said":  {units(blob.Unit{Size: 4096}, blob.Unit{Size: 4096, Block: 1}), func(c *Config) { c.Blobs[1].IndexSize = 64 }, "there are more"},
		"shorter than said": {units(), func(c *Config) { c.Blobs[1].IndexSize = 64 }, "there are 24"},
		"no index":          {[]byte(strings.Repeat("junk", 20)), nil, "parse blob index"},
		"behind the blob":   {units(blob.Unit{Size: 4096, Block: 1 << 20}), nil, "behind the blob's end"},
	} {
		t.Run(name, func(t *testing.T) {
			src, desc := forge(t, func(l lies, m *ocispec.Manifest, config *Config) {
				packed, err := pack(bytes.NewReader(c.plain), int64(len(c.plain)))
				if err != nil {
					t.Fatal(err)
				}
				m.Layers[index] = l.add(MediaTypeIndex, packed)
				config.Blobs[1].Index, config.Blobs[1].IndexSize = m.Layers[index].Digest, int64(len(c.plain))
				if c.change != nil {
					c.change(config)
				}
			})
			a, err := Load(context.Background(), src, desc, "test")
			if err != nil {
				t.Fatal(err)
			}
			m, err := a.FetchMap(context.Background(), 1)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.FetchIndex(context.Background(), 1, m); err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), m.ID()) {
				t.Errorf("error is %v, want one that says %q", err, c.says)
			}
		})
	}
}

func TestOnlyLayoutsAndRegistriesHoldArtifacts(t *testing.T) {
	for _, s := range []string{"dir:x", "tar:x"} {
		ref, err := oci.ParseRef(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(nil, ref); err == nil || !strings.Contains(err.Error(), "neither") {
			t.Errorf("%s: error is %v", s, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	store, p := pushed(f)
	manifest := read(f, store, p.Descriptor)
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		f.Fatal(err)
	}
	f.Add(manifest, read(f, store, m.Config))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		src := lies{}
		var m ocispec.Manifest
		if json.Unmarshal(manifest, &m) == nil { // get the fuzzer past the digest
			m.Config = src.add(MediaTypeConfig, config)
			m.ArtifactType, m.MediaType = Type, ocispec.MediaTypeImageManifest
			if b, err := json.Marshal(m); err == nil {
				manifest = b
			}
		}
		a, err := Load(context.Background(), src, src.add(ocispec.MediaTypeImageManifest, manifest), "fuzz")
		if err != nil {
			return
		}
		if a.MetaSize <= 0 || a.MetaSize > maxMeta || a.MetaDigest.Validate() != nil {
			t.Fatalf("loaded %+v", a)
		}
		for _, b := range a.Blobs {
			if len(b.ID) != 64 || b.Size <= 0 || b.Size > blob.MaxSize || len(b.Sources) == 0 {
				t.Fatalf("blob %+v", b)
			}
		}
	})
}
