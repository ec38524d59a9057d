package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/node/control"
)

// listenMetrics opens the TCP address for monitoring. Without an address it returns nil.
func listenMetrics(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", address)
	if errors.Is(err, unix.EACCES) {
		return nil, fmt.Errorf("serve metrics at %s: %w: pageind has given up the right to ports below 1024, choose another", address, err)
	}
	if err != nil {
		return nil, fmt.Errorf("serve metrics at %s: %w", address, err)
	}
	return l, nil
}

// serveMetrics answers there until ctx is done. The API is not to be had over TCP: whoever reaches it can mount as root.
func serveMetrics(ctx context.Context, l net.Listener, d control.Diagnostics, log *slog.Logger) error {
	if l == nil {
		return nil
	}
	log.Info("serving metrics", "address", l.Addr())
	return control.Serve(ctx, l, d.Handler(), log)
}
