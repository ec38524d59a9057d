package registry_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
)

// TestTheSameServersAreAskedAsByContainerd has containerd's own resolver read the same directories. One thing is left out on purpose: containerd 2.4 pulls blobs even from
// hosts without the capability to, which hosts.toml's documentation excludes.
func TestTheSameServersAreAskedAsByContainerd(t *testing.T) {
	unavailable := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	missing := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }
	forbidden := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }
	for name, c := range map[string]struct {
		dir, toml string // %[1]s and %[2]s are the mirrors, %[3]s is the registry
		instead   map[string]http.HandlerFunc
	}{
		"mirrors in order":    {"registry.test", "server = '%[3]s'\n[host.'%[1]s']\n[host.'%[2]s']\n", nil},
		"the other order":     {"registry.test", "server = '%[3]s'\n[host.'%[2]s']\n[host.'%[1]s']\n", nil},
		"first lacks it":      {"registry.test", "server = '%[3]s'\n[host.'%[1]s']\n[host.'%[2]s']\n", map[string]http.HandlerFunc{"a": missing}},
		"both fail":           {"registry.test", "server = '%[3]s'\n[host.'%[1]s']\n[host.'%[2]s']\n", map[string]http.HandlerFunc{"a": missing, "b": forbidden}},
		"server may not pull": {"registry.test", "server = '%[3]s'\ncapabilities = ['push']\n[host.'%[1]s']\n", nil},
		"default directory":   {"_default", "server = '%[3]s'\n[host.'%[1]s']\n", nil},
		"with a path":         {"registry.test", "server = '%[3]s'\n[host.'%[1]s/v2/sub']\noverride_path = true\n", map[string]http.HandlerFunc{"a": missing}},
		"unavailable":         {"registry.test", "server = '%[3]s'\n[host.'%[2]s']\n", map[string]http.HandlerFunc{"b": unavailable}},
		"twice the same":      {"registry.test", "server = '%[1]s'\n[host.'%[1]s']\n", nil},
		"only a server":       {"registry.test", "server = '%[3]s'\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			f, have := newFleet(t), handler()
			fill(t, have, "team/app")
			// What a request is, without how it asks: containerd begins with a HEAD, or asks for a range from 0.
			urls := make(map[string]string)
			for _, n := range []string{"a", "b", "origin"} {
				urls[n] = f.server(t, n, have).URL
				if h := c.instead[n]; h != nil {
					f.instead(n, h)
				}
			}
			f.write(t, c.dir, c.toml, urls["a"], urls["b"], urls["origin"])
			ours := readPart(f.open(t, "registry.test"), patternDesc, pattern())
			who := f.who()
			theirs := containerdReads(t, f.dir)
			if theirWho := f.who(); who != theirWho || (ours == nil) != (theirs == nil) {
				t.Errorf("we ask %q (%v), containerd asks %q (%v)", who, ours, theirWho, theirs)
			}
		})
	}
}

// containerdReads has containerd fetch the pattern.
func containerdReads(t *testing.T, dir string) error {
	t.Helper()
	ctx := context.Background()
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: config.ConfigureHosts(ctx, config.HostOptions{HostDir: config.HostDirFromRoot(dir)})})
	fetcher, err := resolver.Fetcher(ctx, "registry.test/team/app@"+patternDesc.Digest.String())
	if err != nil {
		return err
	}
	r, err := fetcher.Fetch(ctx, patternDesc)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(got, pattern()) {
		t.Errorf("containerd read %d bytes", len(got))
	}
	return err
}
