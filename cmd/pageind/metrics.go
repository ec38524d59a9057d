package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/pagein/pagein/node/control"
)

// listenMetrics opens the TCP address for monitoring. Without an address it returns nil.
func listenMetrics(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", address)
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
