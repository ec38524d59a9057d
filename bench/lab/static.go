package lab

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Static is a registry that is a plain file server: it has what is in OCI layouts, by digest and by range, and does nothing else. A request costs it
// a twentieth of what it costs distribution's registry.
type Static struct {
	server   *http.Server
	requests *requests
	addr     string
	done     chan error
}

// StartStatic serves layouts at a free port of loopback, as repositories bench/NAME of one or more layouts each. It runs in this process until Stop is called.
func StartStatic(layouts map[string][]string) (*Static, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v2/bench/{name}/{kind}/{digest}", func(w http.ResponseWriter, r *http.Request) {
		d, dirs := digest.Digest(r.PathValue("digest")), layouts[r.PathValue("name")]
		if d.Validate() != nil {
			http.NotFound(w, r)
			return
		}
		switch r.PathValue("kind") {
		case "referrers":
			serveReferrers(w, dirs, d)
		case "manifests", "blobs":
			serveBlob(w, r, dirs, d)
		default:
			http.NotFound(w, r)
		}
	})
	asked := &requests{handler: mux}
	s := &Static{server: &http.Server{Handler: asked}, requests: asked, addr: listener.Addr().String(), done: make(chan error, 1)}
	go func() { s.done <- s.server.Serve(listener) }()
	return s, nil
}

func blobPath(dir string, d digest.Digest) string {
	return filepath.Join(dir, v1.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// serveBlob sends a blob of the first layout that has it, a manifest with the type that it says it has.
func serveBlob(w http.ResponseWriter, r *http.Request, dirs []string, d digest.Digest) {
	i := slices.IndexFunc(dirs, func(dir string) bool { _, err := os.Stat(blobPath(dir, d)); return err == nil })
	if i < 0 {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.PathValue("kind") == "manifests" {
		var manifest v1.Manifest
		if err := readBlob(dirs[i], d, &manifest); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", manifest.MediaType)
	}
	w.Header().Set("Docker-Content-Digest", d.String())
	http.ServeFile(w, r, blobPath(dirs[i], d))
}

// serveReferrers lists what the layouts' indexes have that refers to a manifest.
func serveReferrers(w http.ResponseWriter, dirs []string, subject digest.Digest) {
	found := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{}}
	for _, dir := range dirs {
		var index v1.Index
		text, err := os.ReadFile(filepath.Join(dir, v1.ImageIndexFile))
		if err := errors.Join(err, json.Unmarshal(text, &index)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		for _, desc := range index.Manifests {
			var manifest v1.Manifest
			if err := readBlob(dir, desc.Digest, &manifest); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			if manifest.Subject != nil && manifest.Subject.Digest == subject {
				desc.ArtifactType, desc.Annotations = manifest.ArtifactType, manifest.Annotations
				found.Manifests = append(found.Manifests, desc)
			}
		}
	}
	w.Header().Set("Content-Type", v1.MediaTypeImageIndex)
	_ = json.NewEncoder(w).Encode(found) // a client that has gone needs no answer
}

// readBlob reads a small blob.
func readBlob(dir string, d digest.Digest, v any) error {
	text, err := os.ReadFile(blobPath(dir, d))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// Addr is its host:port.
func (s *Static) Addr() string { return s.addr }

// Requests returns what it was asked for since the last call, in the order in which the answers ended, 100,000 at most.
func (s *Static) Requests() []Request { return s.requests.take() }

// Stop ends it.
func (s *Static) Stop() error {
	err := s.server.Close()
	if ended := <-s.done; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
