package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"

	"github.com/pagein/pagein/node"
	"github.com/pagein/pagein/node/control"
)

// service is what runs once what was mounted is served.
type service struct {
	node    *node.Node
	keeper  *keeperClient
	manager *manager
	log     *slog.Logger

	configuration string // where it is from, for people

	snapshots *snapshots // or nil
}

// serve runs the node and its API until ctx is done or one of them fails. The API ends first, so that nobody asks a node that is being closed, and the keeper is
// watched to the very end: what it does not have when this process ends, the mounts lose.
func (s *service) serve(ctx context.Context, diagnostics control.Diagnostics, listener, metrics net.Listener) error {
	api, stopAPI := context.WithCancel(ctx)
	defer stopAPI()
	running, stopNode := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		ended <- s.node.Run(running)
		stopAPI()
	}()
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	var keeping sync.WaitGroup
	defer keeping.Wait()
	defer stopWatching()
	keeping.Go(func() { s.keeper.Share(watching) })
	keeping.Go(func() { s.keeper.watch(watching, s.log) })

	monitored := make(chan error, 2)
	go func() { monitored <- serveMetrics(api, metrics, diagnostics, s.log) }()
	go func() {
		monitored <- s.snapshots.serve(api, s.node.Settled(), s.log)
		stopAPI()
	}()
	announced := make(chan struct{})
	go func() {
		defer close(announced)
		s.announce(api, listener.Addr())
	}()
	err := control.Serve(api, listener, diagnostics.With(control.Handler(told{s.node, s.snapshots})), s.log)
	s.log.Info("stopping", "reason", cmp.Or(context.Cause(ctx), err, errEnded)) // the cause names the signal
	s.manager.stopping()
	stopAPI()
	<-announced
	err = errors.Join(err, <-monitored, <-monitored)
	stopNode()
	return errors.Join(err, <-ended)
}

// errEnded is why the service ends if nobody told it to and its API has not failed. What has failed then is in the error that serve returns.
var errEnded = errors.New("a part of it has ended")

// abandon ends the node without ever serving others. What is mounted waits for a successor.
func (s *service) abandon() error {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	return s.node.Run(done)
}

// announce says that the daemon is up when, after a restart of the machine, its mounts are too: who is started after it relies on them.
func (s *service) announce(ctx context.Context, address net.Addr) {
	transports := s.node.Transports() // asks the kernel, which takes a while
	logTransports(transports, s.log)
	select {
	case <-ctx.Done():
		return
	case <-s.node.Settled():
	}
	s.log.Info("ready", "version", version, "address", address, "configuration", s.configuration)
	s.manager.ready(transports)
}

// logTransports says what this kernel offers, in order of preference, and warns if that is nothing.
func logTransports(all []control.Transport, log *slog.Logger) {
	offered := false
	for _, t := range all {
		offered = offered || t.Available
		log.Info("transport", "name", t.Name, "available", t.Available, "reason", t.Reason)
	}
	if !offered {
		log.Warn("no transport works with this kernel and this store: nothing can be mounted")
	}
}
