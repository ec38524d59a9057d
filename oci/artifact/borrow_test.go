package artifact

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/layout"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/registry/registrytest"
)

// at opens the place of a reference and returns both.
func at(t *testing.T, client *registry.Client, s string) (Place, oci.Ref) {
	t.Helper()
	ref, err := oci.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	if ref.Kind == oci.Layout {
		if _, err := layout.Create(ref.Path); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Open(client, ref)
	if err != nil {
		t.Fatal(err)
	}
	return p, ref
}

// dictionary stores the sample and loads it.
func dictionary(t *testing.T, p Place, ref oci.Ref) *Artifact {
	t.Helper()
	pushed, err := Push(context.Background(), p.Target(), sample(t))
	if err != nil {
		t.Fatal(err)
	}
	a, err := Load(context.Background(), p.Target(), pushed.Descriptor, ref.String())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// borrowing returns contents with no blob but those of a dictionary.
func borrowing(a *Artifact, from Place) Contents {
	meta := bytes.Repeat([]byte("borrower"), 512)
	c := Contents{Meta: bytes.NewReader(meta), Size: int64(len(meta))}
	for _, b := range a.Blobs {
		c.Blobs = append(c.Blobs, BlobContents{Borrowed: &Borrowed{Blob: b, From: from}})
	}
	return c
}

// repositories is a registry whose repositories have blobs of their own, as real ones have to a client without permissions, and which can mount.
type repositories struct {
	byName map[string]http.Handler
	refuse int // status for requests to mount, 0 to fulfil them
}

func (r *repositories) repository(name string) http.Handler {
	if r.byName[name] == nil {
		r.byName[name] = ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	}
	return r.byName[name]
}

func (r *repositories) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	name, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/")
	digest, from := req.URL.Query().Get("mount"), req.URL.Query().Get("from")
	if digest == "" {
		r.repository(name).ServeHTTP(w, req)
		return
	}
	if r.refuse != 0 {
		w.WriteHeader(r.refuse)
		return
	}
	blob := httptest.NewRecorder()
	r.repository(from).ServeHTTP(blob, httptest.NewRequest(http.MethodGet, "/v2/"+from+"/blobs/"+digest, nil))
	if blob.Code != http.StatusOK {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	r.repository(name).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v2/"+name+"/blobs/uploads/?digest="+digest, blob.Body))
}

func TestBorrowedBlobsAreWhereTheArtifactIs(t *testing.T) {
	ours := &repositories{byName: map[string]http.Handler{}}
	srv, other := httptest.NewServer(ours), httptest.NewServer(&repositories{byName: map[string]http.Handler{}})
	t.Cleanup(srv.Close)
	t.Cleanup(other.Close)
	client := registrytest.Client(t)
	here, there := strings.TrimPrefix(srv.URL, "http://"), strings.TrimPrefix(other.URL, "http://")
	for name, c := range map[string]struct {
		from, to        string
		refuse          int
		copied, mounted bool
	}{
		"same repository":            {from: here + "/same:1", to: here + "/same:2"},
		"another repository":         {from: here + "/base", to: here + "/app", mounted: true},
		"a registry that mounts not": {from: here + "/base2", to: here + "/app2", refuse: http.StatusForbidden, copied: true},
		"another registry":           {from: there + "/base", to: here + "/app3", copied: true},
		"from a layout":              {from: "oci:" + t.TempDir() + "/l", to: here + "/app4", copied: true},
		"from a registry":            {from: there + "/base", to: "oci:" + t.TempDir() + "/l", copied: true},
		"between layouts":            {from: "oci:" + t.TempDir() + "/l", to: "oci:" + t.TempDir() + "/l", copied: true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			from, fromRef := at(t, client, c.from)
			dict := dictionary(t, from, fromRef)
			to, _ := at(t, client, c.to)
			ours.refuse = c.refuse
			contents := borrowing(dict, from)
			done, total := int64(0), int64(0)
			contents.Progress = func(d, n int64) {
				if d < done || n < total || d > n {
					t.Errorf("progress goes from %d of %d to %d of %d", done, total, d, n)
				}
				done, total = d, n
			}
			pushed, err := Push(ctx, to.Target(), contents)
			if err != nil {
				t.Fatal(err)
			}
			size := int64(0)
			for _, b := range dict.Blobs {
				for _, l := range b.Layers() {
					size += l.Size
				}
			}
			if want := map[bool]int64{true: size}; pushed.Copied != want[c.copied] || pushed.Mounted != want[c.mounted] {
				t.Errorf("copied %d, mounted %d of %d bytes", pushed.Copied, pushed.Mounted, size)
			}
			if pushed.Maps != 0 || pushed.Indexes != 0 || pushed.Stored > 4000 || pushed.Sent != pushed.Stored {
				t.Errorf("pushed %+v", pushed)
			}
			if done != total || done != pushed.Stored+size {
				t.Errorf("progress ends at %d of %d, want %d", done, total, pushed.Stored+size)
			}
			a, err := Load(ctx, to.Target(), pushed.Descriptor, "borrower")
			if err != nil {
				t.Fatal(err)
			}
			complete(t, to, a)
			for i, b := range a.Blobs {
				if b.ID != dict.Blobs[i].ID || b.Depth != 1 {
					t.Errorf("blob %d is %+v", i, b)
				}
			}
			again, err := Push(ctx, to.Target(), borrowing(a, to))
			if err != nil || again.Copied != 0 || again.Mounted != 0 {
				t.Errorf("borrowing from there: %+v, %v", again, err)
			}
		})
	}
}

// complete reads all layers of an artifact.
func complete(t *testing.T, p Place, a *Artifact) {
	t.Helper()
	for i, b := range a.Blobs {
		m, err := a.FetchMap(context.Background(), i)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.FetchIndex(context.Background(), i, m); err != nil {
			t.Error(err)
		}
		for _, l := range b.Layers() {
			if got := read(t, p.Target(), l); int64(len(got)) != l.Size {
				t.Errorf("%s has %d bytes", l.Digest, len(got))
			}
		}
	}
}

func TestBlobsThatWereBorrowedTooOftenAreRefused(t *testing.T) {
	p, ref := at(t, nil, "oci:"+t.TempDir()+"/l")
	a := dictionary(t, p, ref)
	a.Blobs[1].Depth = MaxDepth
	if _, err := Push(context.Background(), p.Target(), borrowing(a, p)); err == nil || !strings.Contains(err.Error(), "at most 16") {
		t.Errorf("error is %v", err)
	}
}

func TestCorruptBlobsAreNotBorrowed(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	from, ref := at(t, nil, "oci:"+dir+"/from")
	a := dictionary(t, from, ref)
	for i, layer := range a.Blobs[0].Layers() {
		b := read(t, from.Target(), layer)
		path := filepath.Join(dir, "from/blobs/sha256", layer.Digest.Encoded())
		corrupt := bytes.Clone(b)
		corrupt[len(b)-1] ^= 1
		if err := os.WriteFile(path, corrupt, 0o600); err != nil {
			t.Fatal(err)
		}
		to, _ := at(t, nil, fmt.Sprintf("oci:%s/to%d", dir, i))
		if pushed, err := Push(ctx, to.Target(), borrowing(a, from)); err == nil {
			t.Errorf("a corrupt %s is borrowed: %+v", layer.MediaType, pushed)
		}
		if ok, err := to.Target().Exists(ctx, layer); ok || err != nil {
			t.Errorf("the corrupt %s is stored: %v", layer.MediaType, err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
