package lab

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStaticServesBlobsByRangeAndManifestsByType(t *testing.T) {
	dir := t.TempDir()
	blobs := filepath.Join(dir, "blobs", "sha256")
	hex, other := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	manifest := `{"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"a/b","subject":{"digest":"sha256:` + other + `"}}`
	if err := errors.Join(os.MkdirAll(blobs, 0o755), os.WriteFile(filepath.Join(blobs, hex), []byte(manifest), 0o600), os.WriteFile(filepath.Join(dir, "secret"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "index.json"), []byte(`{"manifests":[{"digest":"sha256:`+hex+`"}]}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	s, err := StartStatic(map[string][]string{"app": {dir}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	for _, tc := range []struct {
		name, path, ranged string
		status             int
		mediaType, body    string
	}{
		{"ping", "/v2/", "", http.StatusOK, "", ""},
		{"manifest", "/v2/bench/app/manifests/sha256:" + hex, "", http.StatusOK, "application/vnd.oci.image.manifest.v1+json", manifest},
		{"blob", "/v2/bench/app/blobs/sha256:" + hex, "", http.StatusOK, "application/octet-stream", manifest},
		{"range", "/v2/bench/app/blobs/sha256:" + hex, "bytes=2-10", http.StatusPartialContent, "application/octet-stream", "mediaType"},
		{"what refers to something", "/v2/bench/app/referrers/sha256:" + other, "", http.StatusOK, "application/vnd.oci.image.index.v1+json",
			`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"","digest":"sha256:` + hex + `","size":0,"artifactType":"a/b"}]}` + "\n"},
		{"nothing refers to it", "/v2/bench/app/referrers/sha256:" + hex, "", http.StatusOK, "application/vnd.oci.image.index.v1+json",
			`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}` + "\n"},
		{"another repository", "/v2/bench/other/blobs/sha256:" + hex, "", http.StatusNotFound, "", ""},
		{"another file", "/v2/bench/app/blobs/sha256:..%2f..%2fsecret", "", http.StatusNotFound, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+tc.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if tc.ranged != "" {
				req.Header.Set("Range", tc.ranged)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tc.status {
				t.Fatalf("status %d, error %v; want %d", resp.StatusCode, err, tc.status)
			}
			if tc.mediaType != "" && (resp.Header.Get("Content-Type") != tc.mediaType || string(body) != tc.body) {
				t.Errorf("%s %q, want %s %q", resp.Header.Get("Content-Type"), body, tc.mediaType, tc.body)
			}
		})
	}
	asked := s.Requests()
	if len(asked) != 8 || asked[3].Range != "bytes=2-10" || asked[3].Status != http.StatusPartialContent || asked[3].Bytes != 9 || asked[7].Status != http.StatusNotFound {
		t.Errorf("it says that it was asked for %v", asked)
	}
	if again := s.Requests(); len(again) != 0 {
		t.Errorf("it says again that it was asked for %v", again)
	}
}
