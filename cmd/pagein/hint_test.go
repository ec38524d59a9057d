package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestAMissingPrefixIsSuggested(t *testing.T) {
	t.Chdir(t.TempDir())
	err := errors.Join(os.WriteFile("v1.tar", nil, 0o600), os.Mkdir("tree", 0o700), os.Mkdir("lay", 0o700),
		os.WriteFile(filepath.Join("lay", ocispec.ImageLayoutFile), nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ operand, said, want string }{
		{"v1.tar", "find docker.io/library/v1.tar: no such host", "v1.tar is a file: write tar:v1.tar, or erofs:v1.tar"},
		{"tree", "find docker.io/library/tree: no such host", "tree is a directory: write dir:tree"},
		{"./lay", `parse reference "./lay": invalid`, "./lay is an image layout: write oci:./lay"},
		{"gone", "find docker.io/library/gone: no such host", ""},
		{"tree", "something else", ""},
		{"dir:tree", "read tree: no", ""},
	} {
		failed := errors.New(c.said)
		got := withHint([]string{"other", c.operand}, failed)
		if want := strings.TrimSuffix(c.said+"; "+c.want, "; "); got.Error() != want || !errors.Is(got, failed) {
			t.Errorf("%s: got %q, want %q", c.operand, got, want)
		}
	}
	if err := withHint([]string{"tree"}, nil); err != nil {
		t.Errorf("an error out of nothing: %v", err)
	}
}

func TestTheOptionForRegistriesWithoutTLSIsNamed(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	certs, name := t.TempDir(), "registry.example.com"
	toml := strings.Replace(fmt.Sprintf("server = %q\n", srv.URL), "http://", "https://", 1)
	config := filepath.Join(certs, "config.toml")
	if err := errors.Join(os.Mkdir(filepath.Join(certs, name), 0o700), os.WriteFile(filepath.Join(certs, name, "hosts.toml"), []byte(toml), 0o600),
		os.WriteFile(config, fmt.Appendf(nil, "hosts-dirs = [%q]\n", certs), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, said := fails(t, "--config", config, "inspect", name+"/app:1"); strings.Count(said, "speaks plain HTTP: use --plain-http") != 1 {
		t.Error(said)
	}
}

func TestExportRefusesWhatIsProbablyNoDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	ref := artifactOf(t, convertible(t))
	if err := os.WriteFile("file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{"oci:x": "dir:oci:x", "erofs:x": "dir:erofs:x", "file": "tar:file"} {
		if status, said := fails(t, "export", ref, target); status != exitUsage || !strings.Contains(said, want) {
			t.Errorf("%s: status %d, %s", target, status, said)
		}
		if _, err := os.Stat(target); target != "file" && err == nil {
			t.Errorf("%s was made", target)
		}
	}
	succeeds(t, "export", "--quiet", ref, "dir:oci:x")
	if _, err := os.Stat("oci:x/file"); err != nil {
		t.Error(err)
	}
}

// TestCutStreamsAreReportedOnce cuts a compressed tar; what the decoder says when it is closed is no news.
func TestCutStreamsAreReportedOnce(t *testing.T) {
	cut := filepath.Join(t.TempDir(), "cut.tar.gz")
	b := output(t, "sh", "-c", "tar -cf - -C \"$1\" . | gzip", "sh", convertible(t))
	if err := os.WriteFile(cut, []byte(b)[:len(b)-20], 0o600); err != nil {
		t.Fatal(err)
	}
	_, said := fails(t, "convert", "tar:"+cut, "oci:"+filepath.Join(t.TempDir(), "x"))
	if strings.Count(strings.TrimSpace(said), "\n") != 0 || strings.Count(said, "EOF") != 1 {
		t.Error(said)
	}
}
