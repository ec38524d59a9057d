package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"

	"github.com/urfave/cli/v2"
)

// systemdRuns reports whether systemd is this machine's service manager, as sd_booted(3) does.
func systemdRuns() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// endByHand is how pageind is ended where it is no unit of systemd's.
const endByHand = "SIGTERM to pageind (to its supervisor, if it runs with --supervise)"

// howToRestart says how both are restarted, pageind first.
func howToRestart(systemd bool) string {
	if systemd {
		return "systemctl restart pageind containerd"
	}
	return endByHand + ", start it anew once it has ended, then restart containerd; containers go on"
}

// restart has systemd restart both, pageind first: containerd looks for the snapshotter when it is first used.
func restart(c *cli.Context) error {
	todo := "without systemd: " + howToRestart(false)
	if c.Bool("apply") {
		todo = "the files are written; " + todo
	}
	for _, unit := range []string{"pageind.service", "containerd.service"} {
		out, err := exec.CommandContext(c.Context, "systemctl", "restart", unit).CombinedOutput() // #nosec G204 -- one of the two
		if err != nil {
			// Its exit status must not become that of this program.
			return fmt.Errorf("restart %s: %s: %s; %s", unit, err.Error(), bytes.TrimSpace(out), todo)
		}
	}
	return nil
}
