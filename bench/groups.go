package main

import (
	"context"
	"os/exec"
	"strings"

	"github.com/pagein/pagein/bench/lab"
)

// group is a set of measurements that share their preparation.
type group struct {
	name  string
	needs []string // programs, besides pagein's own
	curve bool     // shows how something was chosen, no promise: only measured when asked for
	run   func(context.Context, *bench) ([]result, error)
}

// groups are all that is measured, in this order.
func groups() []group {
	const (
		registry   = "registry"
		mkfsErofs  = "mkfs.erofs"
		peers      = "bench-peers"
		containerd = "containerd"
		root       = "debootstrap"
	)
	return []group{
		{name: "mkfs", needs: []string{mkfsErofs, peers, root}, run: benchMkfs},
		{name: "convert", needs: []string{peers, root}, run: benchConvert},
		{name: "size", needs: []string{root}, run: benchSize},
		{name: "dict", needs: []string{root}, run: benchDict},
		{name: "memory", run: benchMemory},
		{name: "read", run: benchRead},
		{name: "miss", run: benchMiss},
		{name: "startup", needs: []string{registry, "crane", "demo"}, run: benchStartup},
		{name: "remote", needs: []string{registry}, run: benchRemote},
		{name: "stargz", needs: []string{registry, peers, containerd, root}, run: benchStargz},
		{name: "containers", needs: []string{peers, containerd, containerd + "-shim-runc-v2", "runc", root}, run: benchContainers},
		{name: "inside", needs: []string{peers, containerd, containerd + "-shim-runc-v2", "runc"}, run: benchInside},
		{name: "node", run: benchNode},
		{name: "local", run: benchLocal},
		{name: "recover", run: benchRecover},
		{name: "profile", needs: []string{peers, containerd, containerd + "-shim-runc-v2", "runc", root}, run: benchProfile},
		{name: "trace", run: benchTrace},
		{name: "around", needs: []string{peers, root}, curve: true, run: benchAround},
		{name: "frames", needs: []string{registry}, curve: true, run: benchFrames},
	}
}

// missing names the programs that a group needs and that are neither beside this one nor in PATH.
func (g group) missing() string {
	var names []string
	for _, name := range g.needs {
		if _, err := lab.Ours(name); err == nil {
			continue
		}
		if _, err := exec.LookPath(name); err != nil {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}
