package artifact

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/layout"
	"github.com/pagein/pagein/oci/registry/registrytest"
)

// counter counts the requests that a server gets.
type counter struct {
	http.Handler
	n int
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.n++
	c.Handler.ServeHTTP(w, r)
}

// places returns where artifacts can be: a layout and a repository, and the references of their tag v1.
func places(t *testing.T) (map[string]Place, map[string]oci.Ref, *counter) {
	t.Helper()
	requests := &counter{Handler: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))}
	srv := httptest.NewServer(requests)
	t.Cleanup(srv.Close)
	client := registrytest.Client(t)
	dir := t.TempDir() + "/layout"
	if _, err := layout.Create(dir); err != nil {
		t.Fatal(err)
	}
	found, refs := map[string]Place{}, map[string]oci.Ref{}
	for name, s := range map[string]string{"layout": "oci:" + dir + ":v1", "registry": strings.TrimPrefix(srv.URL, "http://") + "/app:v1"} {
		ref, err := oci.ParseRef(s)
		if err != nil {
			t.Fatal(err)
		}
		if found[name], err = Open(client, ref); err != nil {
			t.Fatal(err)
		}
		refs[name] = ref
	}
	return found, refs, requests
}

func TestArtifactLoadsByTagAndDigestFromEveryPlace(t *testing.T) {
	ctx := context.Background()
	found, refs, requests := places(t)
	for name, p := range found {
		pushed, err := Push(ctx, p.Target(), sample(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Target().Tag(ctx, pushed.Descriptor, "v1"); err != nil {
			t.Fatal(err)
		}
		byTag, byDigest := refs[name], refs[name]
		byDigest.Tag, byDigest.Digest = "", pushed.Descriptor.Digest
		for _, ref := range []oci.Ref{byTag, byDigest} {
			requests.n = 0
			a, err := p.Load(ctx, ref)
			if err != nil {
				t.Fatal(err)
			}
			if a.Descriptor.Digest != pushed.Descriptor.Digest || a.Descriptor.Size != pushed.Descriptor.Size || a.Name != ref.String() {
				t.Errorf("%s is %s of %d bytes", ref, a.Descriptor.Digest, a.Descriptor.Size)
			}
			if name == "registry" && requests.n != 1 {
				t.Errorf("%s took %d requests, want one for the manifest with the config in it", ref, requests.n)
			}
			var meta bytes.Buffer
			if err := a.FetchMeta(ctx, &meta); err != nil || !bytes.Equal(meta.Bytes(), plainMeta) {
				t.Errorf("%s: metadata image of %d bytes, %v", ref, meta.Len(), err)
			}
		}
	}
}

func TestMissingArtifactIsReportedByItsName(t *testing.T) {
	found, refs, _ := places(t)
	for name, p := range found {
		_, err := p.Load(context.Background(), refs[name])
		if err == nil || !strings.Contains(err.Error(), "find "+refs[name].String()) || !strings.Contains(err.Error(), "not found") {
			t.Errorf("%s: error is %v", name, err)
		} else if strings.Count(err.Error(), refs[name].String()) > 1 {
			t.Errorf("%s: the error names it twice: %v", name, err)
		}
	}
}

func TestRegistryThatLiesAboutTheManifestIsNoticed(t *testing.T) {
	ctx := context.Background()
	found, refs, requests := places(t)
	p, ref := found["registry"], refs["registry"]
	pushed, err := Push(ctx, p.Target(), sample(t))
	if err != nil {
		t.Fatal(err)
	}
	ref.Tag, ref.Digest = "", pushed.Descriptor.Digest
	honest := requests.Handler
	for name, change := range map[string]func([]byte) []byte{
		"other bytes": func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"schemaVersion":2`), []byte(`"schemaVersion":3`), 1)
		},
		"shorter":     func(b []byte) []byte { return b[:max(len(b)-1, 0)] },
		"longer":      func(b []byte) []byte { return append(b, ' ') },
		"much longer": func(b []byte) []byte { return append(b, make([]byte, 5<<20)...) },
	} {
		requests.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			honest.ServeHTTP(rec, r)
			body := rec.Body.Bytes()
			if strings.Contains(r.URL.Path, "/manifests/") {
				body = change(bytes.Clone(body))
			}
			for k, v := range rec.Header() {
				if k != "Content-Length" {
					w.Header()[k] = v
				}
			}
			w.WriteHeader(rec.Code)
			_, _ = w.Write(body)
		})
		if a, err := p.Load(ctx, ref); err == nil || errors.Is(err, ErrNotArtifact) {
			t.Errorf("%s: loaded %v, %v", name, a, err)
		}
	}
}
