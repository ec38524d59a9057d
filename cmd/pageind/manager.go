package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/node/keeper"
)

// manager is the service manager that runs this process, if one does and wants to be told (sd_notify(3)).
type manager struct {
	notifier   *keeper.Notifier // nil without one
	supervisor *os.File         // our own, see supervise; nil without one
	log        *slog.Logger
}

// findManager reads the environment, and clears it so that children do not speak for this process.
func findManager(log *slog.Logger) *manager {
	m := &manager{log: log, supervisor: supervisor()}
	if socket := os.Getenv("NOTIFY_SOCKET"); socket != "" {
		os.Unsetenv("NOTIFY_SOCKET")
		m.notifier = keeper.Systemd(socket)
	}
	return m
}

func (m *manager) tell(state string) {
	if m.notifier == nil {
		return
	}
	if err := m.notifier.Tell(state); err != nil {
		m.log.Warn("the service manager is not told", "err", err)
	}
}

// ready says that all is up: the API answers, and what was mounted is.
func (m *manager) ready(transports []control.Transport) {
	if m.supervisor != nil {
		_, _ = m.supervisor.WriteString("up") // it may have been killed
		m.supervisor.Close()
		m.supervisor = nil
	}
	offered := 0
	for _, t := range transports {
		if t.Available {
			offered++
		}
	}
	m.tell(fmt.Sprintf("READY=1\nSTATUS=Serving; %d of %d transports work here", offered, len(transports)))
}

func (m *manager) stopping() { m.tell("STOPPING=1\nSTATUS=Stopping; mounts stay") }
