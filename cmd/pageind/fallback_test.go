package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWhatCannotBeLazyIsUnpackedAndTheReasonSaidOnce pulls a converted image where it cannot be mounted lazily, and runs it.
func TestWhatCannotBeLazyIsUnpackedAndTheReasonSaidOnce(t *testing.T) {
	beside(t)
	for name, c := range map[string]struct {
		prepare func(*runtimeLab) (options []string)
		reason  string
	}{
		"the registry is out of the daemon's reach": {(*runtimeLab).unreachable, "connection refused"},
		"no transport works here":                   {(*runtimeLab).withoutTransport, "no transport"},
	} {
		t.Run(name, func(t *testing.T) {
			beside(t)
			r := newRuntimeLab(t)
			image := r.push("app", r.layers...)
			r.pagein("convert", "--quiet", image)
			r.stop(unix.SIGTERM)
			r.serve(c.prepare(r)...)
			r.pull(image)
			if there := r.fetched(r.layers...); len(there) != len(r.layers) {
				t.Errorf("only layers %v were fetched", there)
			}
			if got := r.run(image, "sha256sum", "/data/random"); got != digestOf(r.data, "/data/random") {
				t.Errorf("it reads %q", got)
			}
			said := 0
			for line := range strings.Lines(r.said()) {
				if strings.Contains(line, "unpacked as usual") {
					said++
					if !strings.Contains(line, c.reason) {
						t.Errorf("it says %s", line)
					}
				}
			}
			if s := r.status(); said != 1 || len(r.mounted()) > 0 || len(s.Images) > 0 || s.Problem != "" {
				t.Errorf("said %d times, mounted %v, status %+v", said, r.mounted(), s)
			}
		})
	}
}

// unreachable has only the daemon look for the registry where nobody listens.
func (r *runtimeLab) unreachable() (options []string) {
	r.Helper()
	hosts := filepath.Join(r.dir, "hosts")
	if err := os.MkdirAll(filepath.Join(hosts, r.registry), 0o755); err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(hosts, r.registry, "hosts.toml"), []byte("server = 'http://127.0.0.1:1'\n"), 0o644); err != nil {
		r.Fatal(err)
	}
	return r.configure("hosts-dirs = [%q]\n", hosts)
}

// withoutTransport has the store on a file system that none can use, and the snapshots where they were.
func (r *runtimeLab) withoutTransport() (options []string) {
	r.Helper()
	root := filepath.Join(r.dir, "memory")
	if err := os.Mkdir(root, 0o700); err != nil {
		r.Fatal(err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=64m"); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			r.Error(fmt.Errorf("unmount %s: %w", root, err))
		}
	})
	return append([]string{"--root", root}, r.configure("[snapshotter]\nroot = %q\n", filepath.Join(r.root, "snapshotter"))...)
}
