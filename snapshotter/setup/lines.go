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

// unpacks are the entries that say for which snapshotters images can be unpacked, as they are; where none are configured, those that are built into containerd (defaultUnpackConfig in its
// plugins/transfer), which it does not print.
func (p *plan) unpacks() []any {
	if all, ok := at(p.before, "plugins", transferPlugin, "unpack_config").([]any); ok {
		return all
	}
	platform := platforms.DefaultSpec()
	all := []any{table{"platform": platforms.Format(platform), "snapshotter": "overlayfs", "differ": "walking"}}
	if p.release.atLeast(2, 3) {
		platform.OSFeatures = []string{"erofs"}
		all = append(all, table{"platform": platforms.FormatAll(platform), "snapshotter": "erofs", "differ": "erofs", "optional": true})
	}
	return all
}

// ours is the entry for the snapshotter.
func (p *plan) ours() table {
	return table{"platform": platforms.Format(platforms.DefaultSpec()), "snapshotter": p.Name, "differ": "walking"}
}

// transfer has "ctr images pull" unpack for the snapshotter. Whoever adds the first entry drops the built-in ones, so these are written too.
func (p *plan) transfer(others bool) string {
	if !p.transfers() {
		return ""
	}
	entries := []any{p.ours()}
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

// criSettings has Kubernetes use the snapshotter. Where Kubernetes' images are not pulled by the transfer service, containerd tells snapshotters of the images only if it is asked to.
// Containerd 2 translates schema 2, but of this table only if runtimes are configured in it: what it does not find there it takes from where schema 3 has it.
func (p *plan) criSettings(own table) (settings []tomledit.Setting) {
	if !p.CRI {
		return nil
	}
	paths := [][]string{p.criPath(p.schema)}
	if p.schema < 3 && p.release.atLeast(2, 0) {
		paths = [][]string{p.criPath(p.native())}
		if at(own, append(p.criPath(p.schema), "snapshotter")...) != nil {
			paths = append(paths, p.criPath(p.schema))
		}
	}
	for _, path := range paths {
		settings = append(settings, tomledit.Setting{Table: path, Key: "snapshotter", Value: strconv.Quote(p.Name)})
		if !p.transfersCRI() {
			settings = append(settings, tomledit.Setting{Table: path, Key: "disable_snapshot_annotations", Value: "false"})
		}
	}
	return settings
}

// transfersCRI reports whether the transfer service pulls Kubernetes' images. It does since 2.1, unless something is configured that it cannot do (CheckLocalImagePullConfigs in containerd's
// internal/cri/config).
func (p *plan) transfersCRI() bool {
	images, _ := at(p.before, p.criPath(p.native())...).(table)
	registry, _ := images["registry"].(table)
	for _, name := range []string{"mirrors", "configs", "auths"} {
		if t, _ := registry[name].(table); len(t) > 0 {
			return false
		}
	}
	for _, name := range []string{"use_local_image_pull", "discard_unpacked_layers", "image_pull_with_sync_fs"} {
		if images[name] == true {
			return false
		}
	}
	downloads, configured := images["max_concurrent_downloads"].(int64)
	return p.release.atLeast(2, 1) && images["disable_snapshot_annotations"] != false && (!configured || downloads == defaultDownloads)
}

// criPath is the table with the snapshotter for Kubernetes.
func (p *plan) criPath(schema int) []string {
	if schema < 3 {
		return []string{"plugins", criPlugin, "containerd"}
	}
	return []string{"plugins", imagesPlugin}
}
