package servertest

import (
	"fmt"
	"path/filepath"
	"strings"
)

// ContainerdOptions say which containerd to start, and how it is configured.
type ContainerdOptions struct {
	Old         bool   // the 1.7 series instead of 2.x
	Snapshotter string // socket of the snapshotter "pagein", which need not be there yet
	Root        string // the snapshotter's directory
	Untold      bool   // do not tell the snapshotter of which image a layer is
	Sandbox     string // image of pods' sandboxes; with it the CRI is served, and its snapshotter is "pagein"
	HostsDir    string // directory with the hosts.toml files that the CRI uses
	Kept        string // directory for what containerd keeps over restarts of the machine; it, containers and images stay at the end of the test. "" for one that goes then, with them

	// SetUp is called before containerd starts with its program and configuration, in which the snapshotter is not configured then; nil if it is to be.
	SetUp func(program, config string)
}

// noCRI lists the plugins that Kubernetes needs.
const noCRI = `"io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"`

// bareConfig is the same for all of containerd.
const bareConfig = `version = %d
root = %q
state = %q
disabled_plugins = [%s]
[grpc]
address = %q
`

const snapshotterConfig = `[proxy_plugins.pagein]
type = "snapshot"
address = %q
[proxy_plugins.pagein.exports]
root = %q
enable_remote_snapshot_annotations = "%t"
`

// transferConfig is for containerd 2. Who names one place to unpack for must name all: the built-in one is dropped.
const transferConfig = `
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux"
snapshotter = "overlayfs"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux"
snapshotter = "pagein"
`

// criConfig is schema 3. Pods share the host's network, so no network plugin is needed, and need not be killed later than others, which not every machine that tests allows.
const criConfig = `
[plugins."io.containerd.cri.v1.images"]
snapshotter = "pagein"
stats_collect_period = 1
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = %[1]q
[plugins."io.containerd.cri.v1.images".registry]
config_path = %[2]q
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = [%[3]q]
conf_dir = %[3]q
`

// oldCRIConfig is schema 2. Without annotations a snapshotter would not know which image it is asked about.
const oldCRIConfig = `
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %[1]q
stats_collect_period = 1
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "pagein"
disable_snapshot_annotations = false
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = %[2]q
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = %[3]q
conf_dir = %[3]q
`

// config returns containerd's configuration, with everything that it has below dir, unless it is to be kept.
func (o ContainerdOptions) config(dir, socket string) string {
	version, disabled := 3, []string{`"io.containerd.nri.v1.nri"`}
	more, cri := transferConfig, criConfig
	if o.Old {
		version, more, cri = 2, "", oldCRIConfig
	}
	if o.Sandbox == "" {
		disabled = append(disabled, noCRI)
	} else {
		more += fmt.Sprintf(cri, o.Sandbox, o.HostsDir, filepath.Join(dir, "cni"))
	}
	root := o.Kept
	if root == "" {
		root = filepath.Join(dir, "root")
	}
	bare := fmt.Sprintf(bareConfig, version, root, filepath.Join(dir, "state"), strings.Join(disabled, ", "), socket)
	if o.SetUp != nil {
		if o.Sandbox == "" {
			return bare
		}
		cri = strings.NewReplacer(`snapshotter = "pagein"`, `snapshotter = "overlayfs"`, "annotations = false", "annotations = true").Replace(cri)
		return bare + fmt.Sprintf(cri, o.Sandbox, o.HostsDir, filepath.Join(dir, "cni"))
	}
	return bare + fmt.Sprintf(snapshotterConfig, o.Snapshotter, o.Root, !o.Untold) + more
}
