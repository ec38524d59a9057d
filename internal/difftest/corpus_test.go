package difftest_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/internal/cache"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"
)

// TestTreesReadAlikeForEverybody makes images of real systems, and of trees with everything odd in them. PAGEIN_LONG=1 goes all ways with
// the large ones, too, and adds the machine's /usr.
func TestTreesReadAlikeForEverybody(t *testing.T) {
	require.Root(t)
	if testing.Short() {
		t.Skip("long")
	}
	all := []way{plain, artifact, onDevice, fromTar}
	few := all[:2]
	if long() {
		few = all
	}
	for _, tc := range []struct {
		name string
		tree func(t *testing.T) string
		ways []way
	}{
		{"Debian root", debianRoot, few},
		{"Go toolchain", goTree, few},
		{"npm", npmTree, all},
		{"everything odd", oddTree, all},
		{"links of pipes and devices", specialLinks, all[:3]},
		{"large random tree", func(t *testing.T) string { return randomTree(t, 0) }, all},
		{"another large random tree", func(t *testing.T) string { return randomTree(t, 1) }, all},
		{"system files", systemFiles, few},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := tc.tree(t)
			for _, w := range tc.ways {
				w.agree(t, dir)
			}
		})
	}
}

func randomTree(t *testing.T, seed int64) string {
	dir := t.TempDir()
	treetest.Random(t, dir, seed)
	return dir
}

func systemFiles(t *testing.T) string {
	if !long() {
		t.Skip("runs with PAGEIN_LONG=1")
	}
	return "/usr"
}

// goTree is the Go toolchain: a few large programs, many sources.
func goTree(t *testing.T) string {
	return output(t, "go", "env", "GOROOT")
}

// npmTree is npm as it is installed: many small files, deep in each other.
func npmTree(t *testing.T) string {
	dir, err := filepath.EvalSymlinks(filepath.Join(output(t, "npm", "root", "-g"), "npm"))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// debianRoot is a minimal system from the archive that this machine's apt uses. It is kept in $PAGEIN_CACHE or the user's cache directory.
func debianRoot(t *testing.T) string {
	debootstrap := require.Tool(t, "debootstrap")
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		t.Fatal(err)
	}
	_, codename, _ := strings.Cut(string(release), "VERSION_CODENAME=")
	codename, _, _ = strings.Cut(codename, "\n")
	kept, err := cache.Dir("trees")
	if err != nil {
		t.Fatal(err)
	}
	path, err := cache.Get(t.Context(), kept, "debian-root-"+codename, func(work string) error {
		mirror, _, _ := strings.Cut(output(t, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Codename: "+codename, "Component: main"), "\n")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		log, err := exec.CommandContext(ctx, debootstrap, "--variant=minbase", codename, filepath.Join(work, "root"), mirror).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w:\n%s", err, log[max(0, len(log)-2000):])
		}
		return nil
	})
	require.Feature(t, err == nil, fmt.Sprintf("a Debian system from the archive (%v)", err))
	if err := cache.Prune(kept, "debian-"); err != nil {
		t.Error(err)
	}
	return filepath.Join(path, "root") // whose time other processes that ask for it do not change
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(require.Tool(t, name), args...).Output()
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}
