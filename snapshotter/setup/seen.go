package setup

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// serverPlugin has containerd's address from schema 4 on, the table "grpc" before.
const serverPlugin = "io.containerd.server.v1.grpc"

// Seen is what containerd makes of its configuration, for who talks to it.
type Seen struct {
	Address string   // path of the socket where it listens; "" if there is no configuration
	Proxies []string // names of [proxy_plugins], sorted
}

// See has containerd read its configuration, with what that imports.
func (c Containerd) See(ctx context.Context) (seen Seen, err error) {
	text, err := read(c.Config)
	if err != nil || text == nil {
		return seen, err
	}
	dump, err := c.read(ctx, "--config", c.Config, "config", "dump")
	if err != nil {
		return seen, fmt.Errorf("see what containerd makes of %s: %w", c.Config, err)
	}
	seen.Address, _ = at(dump, "plugins", serverPlugin, "address").(string)
	if seen.Address == "" {
		seen.Address, _ = at(dump, "grpc", "address").(string)
	}
	proxies, _ := dump["proxy_plugins"].(table)
	seen.Proxies = slices.Sorted(maps.Keys(proxies))
	return seen, nil
}
