package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/pagein/pagein/fanotify"
	"github.com/pagein/pagein/node/keeper"
)

// keeperClient is the daemon's keeper, which it starts and, should it die, starts again, unless somebody else does.
type keeperClient struct {
	*keeper.Client
	external bool
	dead     atomic.Bool // and not replaced yet
}

// startKeeper attaches to the keeper. What a service manager gave back comes on top of what the keeper has.
func startKeeper(ctx context.Context, cfg config, m *manager, inherited map[string]int, log *slog.Logger) (*keeperClient, error) {
	opt := keeper.Options{
		Socket: cfg.keeperSocket(), Floor: fanotify.FirstDescriptor, Binary: keeperBinary(), Log: cfg.keeperLog(),
		Second: m.notifier, Inherited: inherited,
		Trouble: func(err error) { log.Warn("the service manager is not a second holder", "err", err) },
	}
	if cfg.ExternalKeeper {
		opt.Binary = ""
	}
	c, err := keeper.Start(ctx, opt)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("have mounts kept across a crash: %w: install pagein-keeper beside pageind or in PATH", err)
	case errors.Is(err, keeper.ErrAbsent) && cfg.ExternalKeeper:
		return nil, fmt.Errorf("have mounts kept across a crash: %w: start it (systemctl start pagein-keeper), or do without --external-keeper", err)
	case err != nil:
		return nil, fmt.Errorf("have mounts kept across a crash: %w", err)
	}
	log.Debug("keeper is there", "socket", cfg.keeperSocket())
	return &keeperClient{Client: c, external: cfg.ExternalKeeper}, nil
}

// watch replaces the keeper whenever it dies, until ctx is done.
func (k *keeperClient) watch(ctx context.Context, log *slog.Logger) {
	pause := time.Second
	if k.external {
		pause = 20 * time.Millisecond // somebody else is about to start it
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.Lost():
		}
		k.dead.Store(true)
		log.Error("the keeper has died: mounts depend on this process alone until there is another")
		for told := false; ; {
			err := k.Restore(ctx)
			if err == nil {
				break
			}
			if !told {
				log.Error("there is no keeper yet", "err", err)
			}
			told = true
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
		k.dead.Store(false)
		log.Info("there is a keeper again")
	}
}
