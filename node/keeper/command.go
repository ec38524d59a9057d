package keeper

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Main is the program pagein-keeper; args are those after its name, version is what it says it is. It returns the exit status: 0, 1 for a failure, 2 for wrong usage.
//
// It ignores SIGHUP and SIGINT, and SIGTERM as long as mounts need what it holds: they would serve zeros or be broken without. SIGKILL is
// for whoever means it.
func Main(args []string, version string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet(programName, flag.ContinueOnError)
	flags.SetOutput(stderr)
	socket := flags.String("socket", "/run/pagein/keeper.sock", "`path` of the socket to serve")
	stay := flags.Bool("stay", false, "do not end when nothing is needed (for service managers)")
	showVersion := flags.Bool("version", false, "print the version and end")
	readyFD := flags.Int("ready-fd", -1, "`number` of a descriptor to say on that the socket is served")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: %s [--socket PATH] [--stay] | --version\n\nKeeps the file descriptors that pagein's mounts depend on while pageind is away.\n\n", programName)
		flags.PrintDefaults()
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "%s: unexpected argument %q\n", programName, flags.Arg(0))
		return 2
	case *showVersion:
		fmt.Fprintf(stdout, "%s version %s\n", programName, version)
		return 0
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	say := func(string) {}
	if *readyFD >= 0 {
		unix.CloseOnExec(*readyFD)
		ready := os.NewFile(uintptr(*readyFD), "ready")
		say = func(word string) {
			_, _ = io.WriteString(ready, word) // whoever asked may be gone
			ready.Close()
		}
	}
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGPIPE)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	for _, err := range harden() {
		log.Debug("not hardened", "reason", err)
	}
	log.Info("the keeper begins", "version", version, "socket", *socket, "process", os.Getpid())
	err := Serve(context.Background(), Config{
		Socket: *socket, Stay: *stay, Log: log, Stop: stop,
		Ready: func() {
			say(readyWord)
			if manager := os.Getenv("NOTIFY_SOCKET"); manager != "" {
				if err := Systemd(manager).Tell("READY=1"); err != nil {
					log.Warn("the service manager does not know that the socket is served", "err", err)
				}
			}
		},
	})
	switch {
	case errors.Is(err, ErrTaken):
		say(takenWord)
	case err != nil:
		say(err.Error())
	default:
		return 0
	}
	fmt.Fprintf(stderr, "%s: %v\n", programName, err)
	return 1
}

// harden does what makes the keeper outlive trouble, as far as it is allowed to.
func harden() []error {
	var failed []error
	if err := os.Chdir("/"); err != nil {
		failed = append(failed, err)
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0); err != nil {
		failed = append(failed, err)
	}
	// Not swapped or dropped once touched; without MCL_ONFAULT the runtime's reserved address space would be filled with memory.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		failed = append(failed, fmt.Errorf("mlockall: %w", err))
	}
	return failed
}
