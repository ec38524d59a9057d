package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/internal/envvar"
	"github.com/pagein/pagein/snapshotter/imagestore"
	"github.com/pagein/pagein/snapshotter/setup"
)

const (
	defaultContainerdConfig = "/etc/containerd/config.toml"
	containerdFlag          = "containerd"
	containerdConfigFlag    = "containerd-config"
)

// containerdFlags say which containerd is meant, and how it knows the snapshotter. What help says of where it listens by default is byDefault, or the usual socket if that is empty.
func containerdFlags(byDefault string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: containerdFlag, Value: imagestore.DefaultAddress, DefaultText: byDefault, EnvVars: envvar.Usable("CONTAINERD_ADDRESS"), Usage: "`SOCK` where containerd listens"},
		&cli.StringFlag{Name: "snapshotter", Value: imagestore.Snapshotter, Usage: "`NAME` by which containerd knows pageind"},
	}
}

// openStore connects to the containerd that is meant.
func openStore(c *cli.Context, o imagestore.Options) (*imagestore.Store, error) {
	o.Snapshotter = c.String("snapshotter")
	store, err := imagestore.Open(c.Context, c.String(containerdFlag), o)
	if errors.Is(err, fs.ErrNotExist) {
		cure := "start containerd, or say where it listens: --containerd, $CONTAINERD_ADDRESS"
		if c.String(containerdConfigFlag) != "" {
			cure += ", or --" + containerdConfigFlag + " if its configuration says so"
		}
		return nil, fmt.Errorf("%w (%s)", err, cure)
	}
	return store, err
}

// setupFlags say which containerd is meant, and where its configuration is, which says where it listens.
func setupFlags() []cli.Flag {
	return append(containerdFlags("where its configuration says, else "+imagestore.DefaultAddress),
		&cli.StringFlag{Name: "containerd-program", Value: "containerd", Usage: "`PROGRAM` that reads the configuration"},
		&cli.StringFlag{Name: containerdConfigFlag, Value: defaultContainerdConfig, Usage: "containerd's configuration, `F`"},
	)
}

// findContainerd returns the containerd that is meant, and what it makes of its configuration. If neither the command line nor the environment says where it listens, the configuration
// does, for everything that asks for containerdFlag after it. After an error only the path of the configuration may count.
func findContainerd(c *cli.Context) (containerd setup.Containerd, seen setup.Seen, err error) {
	if containerd.Config, err = filepath.Abs(c.String(containerdConfigFlag)); err != nil {
		return containerd, seen, err
	}
	if containerd.Program, err = exec.LookPath(c.String("containerd-program")); err != nil {
		return containerd, seen, fmt.Errorf("find containerd: %w (name it with --containerd-program)", err)
	}
	if seen, err = containerd.See(c.Context); err == nil && seen.Address != "" && !c.IsSet(containerdFlag) {
		err = c.Set(containerdFlag, seen.Address)
	}
	return containerd, seen, err
}

// checkNamed makes sure that the configuration of containerd is there, if it is named: a slip would have a new file written that nobody reads, or the right one left as it is.
func checkNamed(c *cli.Context, path string) error {
	if !c.IsSet(containerdConfigFlag) {
		return nil
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("find containerd's configuration: %w (name the file that containerd reads; if it reads none yet, make it)", err)
	}
	return nil
}

// checkRead makes sure that this is the configuration which the running containerd knows the snapshotter from, if it does: else the lines in another one would stay, and lead nowhere once
// pageind serves it no more.
func checkRead(c *cli.Context, containerd setup.Containerd, seen setup.Seen) error {
	name := c.String("snapshotter")
	if slices.Contains(seen.Proxies, name) || knowsUs(c) != nil {
		return nil
	}
	lacks := "does not declare it"
	if _, err := os.Stat(containerd.Config); errors.Is(err, fs.ErrNotExist) {
		lacks = "is not there"
	}
	return fmt.Errorf("%s %s, but the running containerd has the snapshotter %s: name its file with --containerd-config, or restart it if that was taken out already", containerd.Config, lacks, name)
}
