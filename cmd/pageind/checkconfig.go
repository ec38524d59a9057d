package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/node"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand"
)

// settings reads what of the configuration is more than words.
func (c config) settings() (engine ondemand.Options, prefetch bool, limits node.CacheLimits, err error) {
	if engine, prefetch, err = c.reading(); err == nil {
		limits, err = c.limits()
	}
	if err != nil {
		err = cli.Exit("configuration: "+err.Error(), exitUsage)
	}
	return engine, prefetch, limits, err
}

// checkConfig says whether a daemon would take the configuration, and touches nothing that one uses. Whether files, directories and addresses that it names can be had is not looked
// at, but for certificates and public keys.
func checkConfig(cfg config, out io.Writer) error {
	if _, err := cfg.logger(io.Discard); err != nil {
		return cli.Exit(err.Error(), exitUsage)
	}
	if _, _, _, err := cfg.settings(); err != nil {
		return err
	}
	remote, err := cfg.Open(slog.New(slog.DiscardHandler))
	if err != nil {
		return cli.Exit("configuration: "+err.Error(), exitUsage)
	}
	remote.Close()
	for _, address := range []string{cfg.Address, cfg.Snapshotter.Address} {
		if address == "" {
			continue
		}
		if _, err := control.SocketPath(address); err != nil {
			return cli.Exit("configuration: "+err.Error(), exitUsage)
		}
	}
	if cfg.MetricsAddress != "" {
		if _, _, err := net.SplitHostPort(cfg.MetricsAddress); err != nil {
			return cli.Exit("configuration: metrics-address: "+err.Error(), exitUsage)
		}
	}
	policy, err := cfg.Trust.open()
	if err != nil {
		return cli.Exit("configuration: "+err.Error(), exitUsage)
	}
	if unread := policy.Problems(); len(unread) > 0 {
		return fmt.Errorf("configuration (%s): what is signed with a key that cannot be read is not trusted: %w", cfg.origin(), errors.Join(unread...))
	}
	_, err = fmt.Fprintf(out, "nothing is wrong with the configuration (%s)\n", cfg.origin())
	return err
}
