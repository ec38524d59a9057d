package main

import (
	"log/slog"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/remote"
)

// defaultConfig is the daemon's configuration, of which the command reads where images may come from.
const defaultConfig = "/etc/pagein/config.toml"

// openRemote reads where images may come from, and makes a client for registries with the options of the command line. Both must be closed.
func openRemote(c *cli.Context) (*remote.Remote, *registry.Client, error) {
	config, err := remote.Read(c.Path("config"))
	if err != nil {
		return nil, nil, err
	}
	log, ok := c.App.Metadata[logKey].(*slog.Logger)
	if !ok {
		log = slog.New(slog.DiscardHandler)
	}
	r, err := config.Open(log)
	if err != nil {
		return nil, nil, err
	}
	client, err := registry.NewClient(r.Registry(registry.Options{PlainHTTP: c.Bool("plain-http"), Insecure: c.Bool("insecure")}))
	if err != nil {
		r.Close()
		return nil, nil, err
	}
	return r, client, nil
}
