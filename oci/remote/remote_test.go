package remote

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/ondemand/backend"
)

// open opens the configuration in a file with the given content.
func open(t *testing.T, content string) *Remote {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Open(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// read reads all of an object.
func read(t *testing.T, o backend.Object) string {
	t.Helper()
	r, err := o.Range(context.Background(), 0, o.Size())
	if err != nil {
		return err.Error()
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b) + errorText(err)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// beside is an object in a layout.
func beside(t *testing.T, content string) backend.Object {
	t.Helper()
	dir, d := t.TempDir(), digest.FromString("whatever")
	if err := os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "blobs/sha256", d.Encoded()), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := backend.Layout(dir, d, int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestPlacesThatAreAllowedComeBeforeTheRegistry(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, other} {
		if err := os.WriteFile(filepath.Join(d, "object"), []byte("attached"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, "log-level = 'info'\n[[storage]]\nurl = 'file://"+dir+"'\n")
	at := beside(t, "registry")
	for name, c := range map[string]struct {
		urls []string
		want string
	}{
		"none":            {nil, "registry"},
		"allowed":         {[]string{"file://" + dir + "/object"}, "attached"},
		"not allowed":     {[]string{"file://" + other + "/object"}, "registry"},
		"second allowed":  {[]string{"file://" + other + "/object", "file://" + dir + "/object"}, "attached"},
		"allowed but not": {[]string{"file://" + dir + "/missing"}, "registry"},
		"nonsense":        {[]string{"nonsense"}, "registry"},
	} {
		if got := read(t, r.Prefer(c.urls, at)); got != c.want {
			t.Errorf("%s: read from %q, want %q", name, got, c.want)
		}
	}
	if got := read(t, (*Remote)(nil).Prefer([]string{"file://" + dir + "/object"}, at)); got != "registry" {
		t.Errorf("without configuration read from %q", got)
	}
}

func TestMissingConfigurationIsTheDefault(t *testing.T) {
	c, err := Read("/does/not/exist")
	if err != nil || len(c.HostsDirs) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if o := open(t, "hosts-dirs = ['/a']\nstall-timeout = '3s'").Registry(registry.Options{PlainHTTP: true}); !o.PlainHTTP || len(o.HostsDirs) != 1 || o.Stall.Seconds() != 3 {
		t.Errorf("registries are reached with %+v", o)
	}
}

func TestBrokenConfigurationIsReportedByItsPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte("[proxy\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error is %v", err)
	}
	if _, err := (Config{Storage: []Storage{{URL: "file:///etc/x"}, {URL: "nonsense"}}}).Open(slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("error is %v", err)
	}
	if _, err := (Config{Proxy: &Proxy{}}).Open(slog.New(slog.DiscardHandler)); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}

func TestPluginsOfKubeletComeAfterWhatPullsBrought(t *testing.T) {
	dir := t.TempDir()
	config := `{"apiVersion":"kubelet.config.k8s.io/v1","kind":"CredentialProviderConfig","providers":[]}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	with := "[credentials]\nkubelet-config = '" + dir + "/config.json'\nkubelet-bin-dir = '" + dir + "'\n"
	for content, want := range map[string][]string{"": {"the pull"}, with: {"the pull", "kubelet's credential providers in " + dir + "/config.json"}} {
		var got []string
		for _, l := range open(t, content).Registry(registry.Options{}).Logins {
			got = append(got, l.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("sources are %q, want %q", got, want)
		}
	}
	for _, c := range []Credentials{
		{KubeletConfig: dir + "/config.json"}, {KubeletBinDir: dir}, {KubeletConfig: "config.json", KubeletBinDir: dir}, {KubeletConfig: dir + "/none", KubeletBinDir: dir},
	} {
		if _, err := (Config{Credentials: c}).Open(slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "[credentials]") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
