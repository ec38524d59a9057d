package setup

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/platforms"

	"github.com/pagein/pagein/internal/tomledit"
)

// proxy declares the snapshotter. It must not have the capability "rebase": containerd would ask for layers without saying what is below them.
func (p *plan) proxy() string {
	return fmt.Sprintf(`[proxy_plugins.%[1]s]
type = "snapshot"
address = %[2]q
[proxy_plugins.%[1]s.exports]
root = %[3]q
enable_remote_snapshot_annotations = "true"
`, p.Name, p.Address, p.Root)
}

// unpacks are the entries that say for which snapshotters images can be unpacked, as they are; where none are configured, containerd's own.
func (p *plan) unpacks() []any {
	if all, ok := p.at(p.before, "plugins", transferPlugin, "unpack_config").([]any); ok {
		return all
	}
	return []any{table{"platform": platforms.Format(platforms.DefaultSpec()), "snapshotter": "overlayfs", "differ": "walking"}}
}

// transfer has "ctr images pull" unpack for the snapshotter. Whoever adds the first entry drops the built-in ones, so these are written too.
func (p *plan) transfer(others bool) string {
	if !p.transfers() {
		return ""
	}
	entries := []any{table{"platform": platforms.Format(platforms.DefaultSpec()), "snapshotter": p.Name, "differ": "walking"}}
	if others {
		entries = append(p.unpacks(), entries...)
	}
	text := ""
	for _, e := range entries {
		text += fmt.Sprintf("[[plugins.%q.unpack_config]]\n", transferPlugin)
		entry, _ := e.(table)
		for _, key := range []string{"platform", "snapshotter", "differ", "config_type"} {
			if v, ok := entry[key].(string); ok && v != "" {
				text += fmt.Sprintf("%s = %q\n", key, v)
			}
		}
		if optional, _ := entry["optional"].(bool); optional {
			text += "optional = true\n"
		}
		if types, _ := entry["layer_types"].([]any); len(types) > 0 {
			text += fmt.Sprintf("layer_types = [%s]\n", quoteAll(types))
		}
	}
	return text
}

func quoteAll(words []any) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(fmt.Sprint(w))
	}
	return strings.Join(quoted, ", ")
}

// transfers reports whether the transfer service can be configured: containerd 1 reads plugins' full names only from schema 2 on, and its ctr does not need the service.
func (p *plan) transfers() bool { return p.schema > 1 || p.release.atLeast(2, 0) }

// criSettings has Kubernetes use the snapshotter. Until 2.0 containerd tells snapshotters of the images only if it is asked to. Containerd 2 translates schema 2, but of this table only if
// runtimes are configured in it: what it does not find there it takes from where schema 3 has it.
func (p *plan) criSettings(own table) (settings []tomledit.Setting) {
	if !p.CRI {
		return nil
	}
	paths := [][]string{p.criPath(p.schema)}
	if p.schema < 3 && p.release.atLeast(2, 0) {
		paths = [][]string{p.criPath(p.native())}
		if p.at(own, append(p.criPath(p.schema), "snapshotter")...) != nil {
			paths = append(paths, p.criPath(p.schema))
		}
	}
	for _, path := range paths {
		settings = append(settings, tomledit.Setting{Table: path, Key: "snapshotter", Value: strconv.Quote(p.Name)})
		if !p.release.atLeast(2, 1) {
			settings = append(settings, tomledit.Setting{Table: path, Key: "disable_snapshot_annotations", Value: "false"})
		}
	}
	return settings
}

// criPath is the table with the snapshotter for Kubernetes.
func (p *plan) criPath(schema int) []string {
	if schema < 3 {
		return []string{"plugins", criPlugin, "containerd"}
	}
	return []string{"plugins", imagesPlugin}
}
