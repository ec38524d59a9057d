package depcheck

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pagein/pagein"

// rooms says what the packages at and below a path may import directly, of this module; tests may import more. A package may always import
// packages of its own room, and anyone may import what stands in leaves.
var rooms = []struct {
	path string
	may  []string
}{
	{"erofs", nil},
	{"blob", nil},
	{"profile", nil},
	{"bpf", nil},
	{"trace", []string{"bpf", "erofs", "profile"}},
	{"mkfs", []string{"erofs", "blob", "profile"}},
	{"oci", nil},
	{"oci/registry", []string{"oci"}},
	{"oci/registry/kubelet", []string{"oci/registry"}},
	{"oci/remote", []string{"oci/registry", "oci/registry/kubelet", "oci/artifact", "ondemand/backend"}},
	{"oci/attach", []string{"ondemand/backend"}},
	{"oci/artifact", []string{"blob", "oci", "oci/registry", "oci/image"}},
	{"oci/image", []string{"oci/registry"}},
	{"oci/signature", []string{"oci/registry"}},
	{"oci/trust", []string{"oci", "oci/artifact", "oci/signature"}},
	{"oci/view", []string{"erofs", "blob", "oci", "oci/registry", "oci/artifact", "oci/remote", "ondemand/backend"}},
	{"oci/profiles", []string{"profile", "oci/artifact", "oci/registry", "oci/image"}},
	{"oci/optimize", []string{"erofs", "blob", "profile", "mkfs", "oci/artifact", "oci/view"}},
	{"oci/convert", []string{"erofs", "blob", "profile", "mkfs", "oci", "oci/registry", "oci/artifact", "oci/image", "oci/remote", "oci/view"}},
	{"ondemand/backend", []string{"oci/registry"}},
	{"ondemand/store", nil},
	{"ondemand/scrub", []string{"blob", "ondemand/store"}},
	{"ondemand", []string{"blob", "ondemand/backend", "ondemand/store"}},
	{"cachefiles", []string{"ondemand", "blob"}},
	{"fanotify", []string{"ondemand", "ondemand/store", "blob"}},
	{"node/keeper", nil},
	{"node/control", nil},
	{"node/storecheck", []string{"ondemand/scrub", "ondemand/store", "node/control"}},
	{"node", []string{
		"erofs", "blob", "oci", "oci/registry", "oci/artifact", "oci/image", "oci/remote", "ondemand", "ondemand/backend", "ondemand/scrub", "ondemand/store",
		"cachefiles", "fanotify", "node/keeper", "node/control", "node/storecheck",
	}},
	{"snapshotter/imagestore", []string{"oci", "oci/registry"}},
	{"snapshotter/setup", nil},
	{"report", []string{"erofs", "node/control", "profile"}},
	{"snapshotter", []string{"oci", "oci/artifact", "oci/trust"}},
	{"snapshotter/imageservice", []string{"oci", "oci/registry"}},
}

// leaves know nothing but the kernel and the standard library.
var leaves = []string{"internal/atomicfile", "internal/cache", "internal/envvar", "internal/helper", "internal/kmount", "internal/httprange", "internal/privileges", "internal/quiet", "internal/require", "internal/tomledit", "internal/treetest", "ondemand/timeline"}

// never lists what must not be reached from a package, however indirectly.
var never = []struct {
	from, to, why string
}{
	{"node", "mkfs", "the daemon does not carry the converter"},
	{"node", "oci/convert", "the daemon does not carry the converter"},
	{"snapshotter", "mkfs", "the daemon does not carry the converter"},
	{"snapshotter", "node", "the snapshotter knows nodes by an interface of its own"},
	{"cmd/pageind", "mkfs", "the daemon does not carry the converter"},
	{"cmd/pageind", "oci/convert", "the daemon does not carry the converter"},
	{"cmd/pagein-keeper", "ondemand", "the keeper stays tiny: it must outlive every bug of the daemon"},
	{"cmd/pagein-keeper", "oci", "the keeper stays tiny: it must outlive every bug of the daemon"},
	{"cmd/pagein-keeper", "net/http", "the keeper stays tiny: it must outlive every bug of the daemon"},
	{"erofs", "net", "formats know no network"},
	{"blob", "net", "formats know no network"},
	{"profile", "net", "formats know no network"},
	{"mkfs", "net/http", "the converter's core works without a network"},
}

// pkg is the part of go list's answer that is used here.
type pkg struct {
	ImportPath string
	Imports    []string // direct, without tests
	Deps       []string // transitive, without tests
}

func TestKnowledgePointsDownwardsOnly(t *testing.T) {
	pkgs := list(t)
	for _, room := range rooms {
		for _, p := range below(t, pkgs, room.path) {
			if roomOf(p) != room.path {
				continue // of a room inside this one
			}
			for _, imp := range p.Imports {
				rel, ours := strings.CutPrefix(imp, module+"/")
				if !ours || roomOf(pkgs[imp]) == room.path || slices.Contains(leaves, rel) {
					continue
				}
				if !slices.Contains(room.may, roomOf(pkgs[imp])) {
					t.Errorf("%s imports %s: room %q may import only %q and %q", p.ImportPath, rel, room.path, room.may, leaves)
				}
			}
		}
	}
	for _, leaf := range leaves {
		for _, p := range below(t, pkgs, leaf) {
			for _, imp := range p.Imports {
				if strings.HasPrefix(imp, module+"/") {
					t.Errorf("%s imports %s: a leaf may import nothing of ours", p.ImportPath, imp)
				}
			}
		}
	}
}

func TestRoomsNeverReachWhatTheyMustNotKnow(t *testing.T) {
	pkgs := list(t)
	for _, rule := range never {
		for _, p := range below(t, pkgs, rule.from) {
			for _, dep := range p.Deps {
				if within(strings.TrimPrefix(dep, module+"/"), rule.to) && roomOf(p) != roomOf(pkgs[dep]) {
					t.Errorf("%s reaches %s: %s", p.ImportPath, dep, rule.why)
				}
			}
		}
	}
}

// TestOnlyTestsImportTestHelpers keeps package testing out of what is shipped.
func TestOnlyTestsImportTestHelpers(t *testing.T) {
	for _, p := range below(t, list(t), "cmd") {
		if slices.Contains(p.Deps, "testing") {
			t.Errorf("%s reaches package testing", p.ImportPath)
		}
	}
}

// list asks the go command for the import graph of the module as it is built for Linux.
func list(t *testing.T) map[string]*pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", module+"/...")
	cmd.Env = append(cmd.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	pkgs := make(map[string]*pkg)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(pkg)
		switch err := dec.Decode(p); {
		case errors.Is(err, io.EOF):
			return pkgs
		case err != nil:
			t.Fatalf("go list: %v", err)
		}
		pkgs[p.ImportPath] = p
	}
}

// below returns the packages at and under a path of the module. That there are none is an error: a rule about nothing would pass as kept.
func below(t *testing.T, pkgs map[string]*pkg, path string) []*pkg {
	t.Helper()
	var found []*pkg
	for _, p := range pkgs {
		if within(strings.TrimPrefix(p.ImportPath, module+"/"), path) {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		t.Errorf("there is no package at or below %s", path)
	}
	return found
}

// roomOf returns the longest room path that a package lies in, or "" for one in no room.
func roomOf(p *pkg) string {
	if p == nil {
		return ""
	}
	best := ""
	for _, room := range rooms {
		if within(strings.TrimPrefix(p.ImportPath, module+"/"), room.path) && len(room.path) > len(best) {
			best = room.path
		}
	}
	return best
}

// within reports whether path is parent or lies under it.
func within(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, parent+"/")
}
