package registry

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/oci"
)

// lists is a registry that knows what refers to an image, by its API or by a tag.
type lists struct {
	mu    sync.Mutex
	api   bool
	asked map[string][]string // of each repository
}

var subject, attachment = digest.FromString("image"), digest.FromString("artifact")

func (l *lists) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	what := "tag"
	if strings.Contains(r.URL.Path, "/referrers/") {
		what = "api"
	}
	repository := strings.Split(r.URL.Path, "/")[2]
	l.mu.Lock()
	l.asked[repository] = append(l.asked[repository], what)
	has := (what == "api") == l.api
	l.mu.Unlock()
	if !has {
		http.NotFound(w, r)
		return
	}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: attachment, Size: 1}},
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	w.Header().Set("Docker-Content-Digest", digest.FromBytes(index).String())
	_, _ = w.Write(index)
}

// replace has another server take its place, which has no API.
func (l *lists) replace() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.api = false
}

// of returns what a repository was asked for, sorted.
func (l *lists) of(repository string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := l.asked[repository]
	slices.Sort(asked)
	return strings.Join(asked, " ")
}

// TestARegistryIsAskedForReferrersInBothWaysOnce has repositories of one registry, whose clients share what is known.
func TestARegistryIsAskedForReferrersInBothWaysOnce(t *testing.T) {
	for name, want := range map[string]string{"api": "api", "tag": "tag"} {
		t.Run(name, func(t *testing.T) {
			l := &lists{api: name == "api", asked: make(map[string][]string)}
			srv := httptest.NewServer(l)
			t.Cleanup(srv.Close)
			c, err := NewClient(Options{Anonymous: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			list := func(repository string) (found []ocispec.Descriptor) {
				repo, err := c.Repository(oci.Ref{Kind: oci.Registry, Host: strings.TrimPrefix(srv.URL, "http://"), Repository: repository})
				if err == nil {
					err = repo.Referrers(t.Context(), ocispec.Descriptor{Digest: subject}, "", func(part []ocispec.Descriptor) error {
						found = append(found, part...)
						return nil
					})
				}
				if err != nil {
					t.Fatal(err)
				}
				return found
			}
			for i, repository := range []string{"first", "second", "third"} {
				if found := list(repository); len(found) != 1 || found[0].Digest != attachment {
					t.Errorf("found %v", found)
				}
				// With the API, the other request may be given up before it is made, or told when it was.
				if asked := l.of(repository); i > 0 && asked != want || i == 0 && asked != "api tag" && asked != want {
					t.Errorf("list %d asks for %q", i, asked)
				}
			}
			l.replace()
			if found := list("fourth"); len(found) != 1 || found[0].Digest != attachment {
				t.Errorf("another server has %v", found)
			}
		})
	}
}
