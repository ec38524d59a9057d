package lab

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Static is a registry that is a plain file server: it has the blobs of OCI layouts, by digest and by range, and does nothing else. A request costs it
// a twentieth of what it costs distribution's registry.
type Static struct {
	server *http.Server
	addr   string
	done   chan error
}

// StartStatic serves layouts at a free port of loopback, each as the repository bench/NAME. It runs in this process until Stop is called.
func StartStatic(layouts map[string]string) (*Static, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v2/bench/{name}/{kind}/{digest}", func(w http.ResponseWriter, r *http.Request) {
		hex, ok := strings.CutPrefix(r.PathValue("digest"), "sha256:")
		dir, known := layouts[r.PathValue("name")]
		if !ok || !known || strings.ContainsAny(hex, "/.") {
			http.NotFound(w, r)
			return
		}
		serveBlob(w, r, filepath.Join(dir, v1.ImageBlobsDir, "sha256", hex))
	})
	s := &Static{server: &http.Server{Handler: mux}, addr: listener.Addr().String(), done: make(chan error, 1)}
	go func() { s.done <- s.server.Serve(listener) }()
	return s, nil
}

// serveBlob sends a file, as a manifest with the type that it says it has.
func serveBlob(w http.ResponseWriter, r *http.Request, path string) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.PathValue("kind") == "manifests" {
		var manifest struct {
			MediaType string `json:"mediaType"`
		}
		text, err := os.ReadFile(path)
		if err != nil || json.Unmarshal(text, &manifest) != nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", manifest.MediaType)
	}
	w.Header().Set("Docker-Content-Digest", r.PathValue("digest"))
	http.ServeFile(w, r, path)
}

// Addr is its host:port.
func (s *Static) Addr() string { return s.addr }

// Stop ends it.
func (s *Static) Stop() error {
	err := s.server.Close()
	if ended := <-s.done; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
