package node

import (
	"bytes"
	"io"
	"log"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/layout"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/ondemand/store"
)

// contents are those of an artifact whose metadata image says of its device what change makes of the truth.
func contents(t *testing.T, change func(*erofs.Device)) artifact.Contents {
	t.Helper()
	var object bytes.Buffer
	w := blob.NewWriter(t.Context(), &object, blob.WriterOptions{})
	ref, err := w.Append(strings.NewReader(strings.Repeat("data", 2000)), 8000)
	if err != nil {
		t.Fatal(err)
	}
	m, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	device := erofs.Device{Tag: m.ID(), Blocks: uint64(m.Size() / blob.BlockSize)}
	change(&device)
	file := &erofs.Inode{Mode: 0o100644, Size: 8000, Extents: []erofs.Extent{{Len: 8000, Device: 1, Block: w.Block(ref)}}}
	root := &erofs.Inode{Mode: 0o40755, Entries: []erofs.Dirent{{Name: "f", Inode: file}}}
	meta, err := os.Create(filepath.Join(t.TempDir(), "meta"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { meta.Close() })
	stats, err := erofs.Write(meta, root, erofs.WriteOptions{Devices: []erofs.Device{device}})
	if err != nil {
		t.Fatal(err)
	}
	return artifact.Contents{Meta: meta, Size: stats.Size, Blobs: []artifact.BlobContents{
		{Map: m, Object: bytes.NewReader(object.Bytes()), Digest: digest.FromBytes(object.Bytes())},
	}}
}

// pushed makes such an artifact in a new layout.
func pushed(t *testing.T, change func(*erofs.Device)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	dst, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := artifact.Push(t.Context(), dst, contents(t, change))
	if err != nil {
		t.Fatal(err)
	}
	if err := dst.Tag(t.Context(), desc.Descriptor, "v1"); err != nil {
		t.Fatal(err)
	}
	return dir
}

func load(t *testing.T, dir string) (record, error) {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := &Node{log: slog.New(slog.DiscardHandler), store: s}
	return n.load(t.Context(), origin{Ref: "oci:" + dir + ":v1"})
}

// TestAnArtifactMustFitItsMetadataImage has the image want another blob than the artifact lists: nothing else ties the two together.
func TestAnArtifactMustFitItsMetadataImage(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*erofs.Device)
		want   string // in the error, "" for none
	}{
		{"right", func(*erofs.Device) {}, ""},
		{"another blob", func(d *erofs.Device) { d.Tag = strings.Repeat("0", 64) }, "device 1"},
		{"another size", func(d *erofs.Device) { d.Blocks += 7 }, "device 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := load(t, pushed(t, c.change))
			if c.want == "" {
				if err != nil || len(r.Blobs) != 1 || len(r.Blobs[0].Sources) != 1 {
					t.Errorf("got %+v, %v", r, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error about %s", err, c.want)
			}
		})
	}
}

// TestADamagedLayoutIsRefused takes away or damages each blob of the layout in turn.
func TestADamagedLayoutIsRefused(t *testing.T) {
	dir := pushed(t, func(*erofs.Device) {})
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	if err != nil || len(blobs) < 5 {
		t.Fatalf("%d blobs, %v", len(blobs), err)
	}
	for _, name := range blobs {
		sound, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(sound, []byte(`{"version"`)) {
			continue // the config is in the manifest, too
		}
		for what, damage := range map[string]func() error{
			"missing":   func() error { return os.Remove(name) },
			"truncated": func() error { return os.WriteFile(name, sound[:len(sound)/2], 0o644) },
		} {
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			if _, err := load(t, dir); err == nil {
				t.Errorf("%s is %s, and the image was loaded", filepath.Base(name), what)
			}
			if err := os.WriteFile(name, sound, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := load(t, dir); err != nil {
		t.Errorf("whole again: %v", err)
	}
}

// TestAnImageIsLoadedThroughTheArtifactThatIsAttachedToIt names the image only.
func TestAnImageIsLoadedThroughTheArtifactThatIsAttachedToIt(t *testing.T) {
	srv := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(true)))
	defer srv.Close()
	ref := oci.Ref{Kind: oci.Registry, Host: strings.TrimPrefix(srv.URL, "http://"), Repository: "app", Tag: "v1"}
	client, err := registry.NewClient(registry.Options{PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	repo, err := client.Repository(ref)
	if err != nil {
		t.Fatal(err)
	}
	image, err := oras.PackManifest(t.Context(), repo, oras.PackManifestVersion1_0, ocispec.MediaTypeImageConfig, oras.PackManifestOptions{})
	if err == nil {
		err = repo.Tag(t.Context(), image, ref.Tag)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := &Node{log: slog.New(slog.DiscardHandler), store: s}
	defer n.remotes.close()
	o := origin{Ref: ref.String(), PlainHTTP: true}
	if _, err := n.load(t.Context(), o); control.ClassOf(err) != control.Invalid {
		t.Errorf("nothing is attached: %v", err)
	}
	c := contents(t, func(*erofs.Device) {})
	c.Subject = &image
	pushed, err := artifact.Push(t.Context(), repo, c)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := n.load(t.Context(), o); err != nil || r.Artifact != pushed.Descriptor.Digest.String() {
		t.Errorf("loaded %s, want %s: %v", r.Artifact, pushed.Descriptor.Digest, err)
	}
}

func TestThePrintedCommandIsComplete(t *testing.T) {
	n := &Node{cfg: Config{Address: control.DefaultAddress}}
	for _, c := range []struct {
		address string
		req     control.PrepareRequest
		want    string
	}{
		{control.DefaultAddress, control.PrepareRequest{Source: control.Source{Ref: "host/app:1"}}, "mount -t pagein host/app:1 DIR"},
		{"unix:///x/s", control.PrepareRequest{Source: control.Source{Ref: "oci:/a b/it's:1", PlainHTTP: true, Insecure: true}, Transport: "file"},
			`mount -t pagein -o address=unix:///x/s,transport=file,plain-http,insecure 'oci:/a b/it'\''s:1' DIR`},
	} {
		n.cfg.Address = c.address
		if got := n.helperCommand(c.req); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}
