package node

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pagein/pagein/ondemand"
)

// TestMountsThatOthersRelyOnAreNotIdle has a directory of such mounts behind a symbolic link, as the targets of mounts are resolved.
func TestMountsThatOthersRelyOnAreNotIdle(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		reserved string
		targets  []string
		idle     bool
	}{
		"nothing is reserved":  {"", []string{"real/1"}, true},
		"elsewhere":            {"real", []string{"other/1"}, true},
		"of a similar name":    {"real", []string{"really/1"}, true},
		"below":                {"real", []string{"real/1/fs"}, false},
		"below, by a link":     {"link", []string{"real/1/fs"}, false},
		"below, and elsewhere": {"real", []string{"other/1", "real/1/fs"}, false},
	} {
		n := &Node{images: map[string]*image{"a": {attached: new(ondemand.Image)}}}
		if c.reserved != "" {
			n.cfg.Reserved = filepath.Join(dir, c.reserved)
		}
		for _, target := range c.targets {
			n.images["a"].targets = append(n.images["a"].targets, filepath.Join(dir, target))
		}
		if target, idle := n.idleTarget(time.Hour, nil); idle != c.idle {
			t.Errorf("%s: %q, %v", name, target, idle)
		}
	}
}
