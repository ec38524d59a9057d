package setup

import (
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/pelletier/go-toml/v2"

	"github.com/pagein/pagein/internal/tomledit"
)

// Pageind is where pageind serves the snapshotter.
type Pageind struct {
	Address string // path of the socket
	Root    string // directory of the snapshots
	Store   string // pageind's own directory
	Run     string // that of its sockets
}

// The defaults of pageind.
const (
	defaultRun  = "/run/pagein"
	defaultRoot = "/var/lib/pagein"
	socketName  = "containerd.sock" // in the run directory: each daemon has its own
)

// pageindFile is what counts here of pageind's configuration.
type pageindFile struct {
	Root        string `toml:"root"`
	Run         string `toml:"run"`
	Snapshotter struct {
		Address      string `toml:"address"`
		Root         string `toml:"root"`
		ImageService string `toml:"image-service"`
	} `toml:"snapshotter"`
}

// LeavesKubelet reports whether a change of pageind's configuration ends that it serves kubelet.
func LeavesKubelet(c *Change) bool {
	var was, is pageindFile
	return toml.Unmarshal(c.Old, &was) == nil && toml.Unmarshal(c.New, &is) == nil && was.Snapshotter.ImageService != "" && is.Snapshotter.ImageService == ""
}

// PlanPageind reads pageind's configuration, and works out the change that has it serve containerd if it does not. With the address of containerd it is to serve kubelet the image
// service of that one, too.
func PlanPageind(path, imageService string) (Pageind, *Change, error) {
	var p Pageind
	text, err := read(path)
	if err != nil {
		return p, nil, err
	}
	if text, err = tomledit.Undo(text); err != nil {
		return p, nil, fmt.Errorf("change %s: %w", path, err)
	}
	file := pageindFile{Root: defaultRoot, Run: defaultRun}
	if err := toml.Unmarshal(text, &file); err != nil {
		return p, nil, fmt.Errorf("read %s: %w", path, err)
	}
	p.Store, p.Run = file.Root, file.Run
	if p.Root = file.Snapshotter.Root; p.Root == "" {
		p.Root = filepath.Join(file.Root, "snapshotter")
	}
	e := tomledit.Edit{}
	set := func(key, path string) {
		e.Settings = append(e.Settings, tomledit.Setting{Table: []string{"snapshotter"}, Key: key, Value: strconv.Quote("unix://" + path)})
	}
	if p.Address = socketPath(file.Snapshotter.Address); p.Address == "" {
		p.Address = filepath.Join(file.Run, socketName)
		set("address", p.Address)
	}
	if imageService != "" && file.Snapshotter.ImageService == "" {
		set("image-service", socketPath(imageService))
	}
	change, err := edited(path, e)
	if err != nil {
		return p, nil, err
	}
	if len(change.New) == 0 && change.Old == nil {
		change.New = nil
	}
	return p, change, nil
}
