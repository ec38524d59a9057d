package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"time"

	"github.com/pagein/pagein/fanotify"
	"github.com/pagein/pagein/node/keeper"
)

// keeperClient is the daemon's keeper, which it starts and, should it die, starts again.
type keeperClient struct{ *keeper.Client }

func startKeeper(ctx context.Context, cfg config, log *slog.Logger) (*keeperClient, error) {
	c, err := keeper.Start(ctx, keeper.Options{Socket: cfg.keeperSocket(), Floor: fanotify.FirstDescriptor, Binary: keeperBinary(), Log: cfg.keeperLog()})
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("have mounts kept across a crash: %w: install pagein-keeper beside pageind or in PATH", err)
	}
	if err != nil {
		return nil, fmt.Errorf("have mounts kept across a crash: %w", err)
	}
	log.Debug("keeper is there", "socket", cfg.keeperSocket())
	return &keeperClient{c}, nil
}

// watch replaces the keeper whenever it dies, until ctx is done.
func (k *keeperClient) watch(ctx context.Context, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.Lost():
		}
		log.Error("the keeper has died: mounts depend on this process alone until there is another")
		for {
			err := k.Restore(ctx)
			if err == nil {
				break
			}
			log.Error("there is no keeper yet", "err", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
		}
		log.Info("there is a keeper again")
	}
}
