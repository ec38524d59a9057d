// Command pageind is the node daemon: it mounts images whose bytes are elsewhere, and fetches those bytes as the kernel misses them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/fanotify"
	"github.com/pagein/pagein/internal/envvar"
	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/node"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/node/keeper"
	"github.com/pagein/pagein/oci/trust"
	"github.com/pagein/pagein/ondemand/store"
)

// version is set by the linker.
var version = "unknown"

// The exit statuses, which scripts rely on.
const (
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	kmount.Init()
	trust.Init()
	outliveTerminal()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program the hard way
	app := newApp()
	if err := app.RunContext(ctx, os.Args); err != nil {
		fmt.Fprintf(os.Stderr, "pageind: %v\n", err)
		status := exitFailure
		if coded := cli.ExitCoder(nil); errors.As(err, &coded) {
			status = coded.ExitCode()
		}
		os.Exit(status)
	}
}

// signalsText tells what the daemon does when it gets a signal.
const signalsText = `SIGTERM and SIGINT end pageind; mounts stay, and what reads something missing waits for the next pageind.
A second one ends it at once. SIGHUP does nothing: pageind outlives its terminal, and reads its configuration
at its start only.`

// outliveTerminal has this process go on when its terminal is closed, or whoever reads its log has ended: readers hang on it. The signals are caught and dropped, as the programs that it
// starts would be born ignoring what it ignores.
func outliveTerminal() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGPIPE)
}

func newApp() *cli.App {
	return &cli.App{
		Name:            "pageind",
		Usage:           "mount images lazily and fetch their bytes on demand",
		UsageText:       "pageind [options]",
		Description:     signalsText,
		Version:         version,
		HideHelpCommand: true,
		ExitErrHandler:  func(*cli.Context, error) {}, // main reports
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return cli.Exit(fmt.Sprintf("%v (see pageind --help)", err), exitUsage)
		},
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "config", EnvVars: envvar.Usable("PAGEIN_CONFIG"), Usage: "read options from the TOML file `F`; options given here win (default /etc/pagein/config.toml, if it is there)"},
			&cli.BoolFlag{Name: "check-config", Usage: "say whether the configuration makes sense, and do nothing else; exit status 2 if not, 1 if it names keys that cannot be read"},
			&cli.PathFlag{Name: "root", Value: defaults.Root, Usage: "keep images and blobs in `DIR`, on ext4, xfs or btrfs"},
			&cli.PathFlag{Name: "run", Value: defaults.Run, Usage: "keep the keeper's socket in `DIR`"},
			&cli.StringFlag{Name: "address", Value: defaults.Address, EnvVars: envvar.Usable("PAGEIN_ADDRESS"), Usage: "serve pagein at `unix://SOCK`"},
			&cli.StringFlag{Name: "snapshotter", Usage: "serve containerd's snapshots at `unix://SOCK`; without it containerd is not served"},
			&cli.StringFlag{Name: "transport", Value: defaults.Transport, Usage: "reach the kernel through `NAME`: auto, fanotify, cachefiles or file"},
			&cli.BoolFlag{Name: "unmount-on-exit", Usage: "unmount what is not in use at SIGTERM; without it mounts stay and wait for the next pageind"},
			&cli.BoolFlag{Name: "restore-mounts", Value: defaults.RestoreMounts, Usage: "after a restart of the machine, mount again what was mounted, from what is on this node"},
			&cli.BoolFlag{Name: "external-keeper", Usage: "do not start pagein-keeper: a service manager does"},
			&cli.BoolFlag{Name: "supervise", Usage: "start pageind again whenever it fails, for systems without a service manager"},
			&cli.StringFlag{Name: "read-deadline", Value: defaults.ReadDeadline, Usage: "how long readers wait for bytes that cannot be had before they get EIO: a `TIME` such as 30s, or wait"},
			&cli.StringFlag{Name: "prefetch", Value: defaults.Prefetch, Usage: "fetch `WHAT` of an image before it is read: none or all"},
			&cli.StringFlag{Name: "metrics-address", Usage: "serve metrics and health at the TCP address `HOST:PORT`, besides the socket"},
			&cli.BoolFlag{Name: "pprof", Usage: "serve Go profiles where metrics are served"},
			&cli.StringFlag{Name: "log-level", Value: defaults.LogLevel, Usage: "print messages of this `LEVEL` and above: debug, info, warn, error"},
			&cli.StringFlag{Name: "log-format", Value: defaults.LogFormat, Usage: "print messages as `FORMAT`: text or json"},
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return cli.Exit(fmt.Sprintf("unexpected operand %q (see pageind --help)", c.Args().First()), exitUsage)
			}
			cfg, err := readConfig(c)
			if err != nil {
				return cli.Exit(err.Error(), exitUsage)
			}
			if c.Bool("check-config") {
				return checkConfig(cfg, c.App.Writer)
			}
			if c.Bool("supervise") {
				return supervise(c.Context, cfg)
			}
			return run(c.Context, cfg)
		},
	}
}

// run is the daemon, until ctx is done.
func run(ctx context.Context, cfg config) error {
	began := time.Now()
	log, err := cfg.logger(os.Stderr)
	if err != nil {
		return cli.Exit(err.Error(), exitUsage)
	}
	engine, prefetch, limits, err := cfg.settings()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("mounting needs root (CAP_SYS_ADMIN in the initial user namespace): run pageind as root")
	}
	dropPrivileges(log)
	cfg.warnOfReaders(log)
	if err := raiseFileLimit(); err != nil {
		return err
	}
	m := findManager(log)
	inherited, err := keeper.Inherited(fanotify.FirstDescriptor)
	if err != nil {
		return err
	}
	remote, err := cfg.Open(log)
	if err != nil {
		return cli.Exit("configuration: "+err.Error(), exitUsage)
	}
	defer remote.Close()
	// Each daemon has its own run directory and its own store; the locks come before anything of either is touched.
	lock, err := lockRun(cfg.Run)
	if err != nil {
		return err
	}
	defer lock.Close()
	s, err := store.Open(cfg.Root)
	if err != nil {
		return err
	}
	listener, err := control.Listen(ctx, cfg.Address)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	defer listener.Close()
	metrics, err := listenMetrics(ctx, cfg.MetricsAddress)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	if metrics != nil {
		defer metrics.Close()
	}
	containerd, err := listenSnapshots(ctx, cfg.Snapshotter.Address)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	if containerd != nil {
		defer containerd.Close()
	}
	k, err := startKeeper(ctx, cfg, m, inherited, log)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	defer k.Close()
	adopted := k.Take()
	recallLogins(adopted, cfg.Snapshotter.ImageService != "", remote.Pulled(), k, log)
	// From here to the end of node.New nothing may open a descriptor that it closes again: see fanotify.New.
	n, err := node.New(ctx, node.Config{
		Store: s, Transport: cfg.Transport, Version: version, Began: began, Keeper: cfg.keeperSocket(), Address: cfg.Address, Holder: k, HolderLost: k.dead.Load, Adopted: adopted, Log: log,
		Remote: remote, Engine: engine, Prefetch: prefetch,
		UnmountOnExit: cfg.UnmountOnExit, RestoreMounts: cfg.RestoreMounts, Cache: limits, Reserved: cfg.Snapshotter.Root, CheckMetadata: cfg.CheckMetadata,
	})
	if err != nil {
		return err
	}
	up := &service{node: n, keeper: k, manager: m, log: log, configuration: cfg.origin()}
	if up.snapshots, err = openSnapshots(cfg, containerd, n, remote.Pulled(), log); err != nil {
		return errors.Join(err, up.abandon())
	}
	return up.serve(ctx, control.Diagnostics{Metrics: n.Metrics(), Ready: n.Ready, Profile: cfg.Pprof}, listener, metrics)
}

// lockRun makes this process the only one that uses the run directory.
func lockRun(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the run directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the run directory: %w", err)
	}
	for end := time.Now().Add(lockPatience); ; time.Sleep(10 * time.Millisecond) {
		if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return lock, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock the run directory %s: %w", dir, err), lock.Close())
		}
		if time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("run directory %s is in use by another pageind: stop it, or choose another directory with --run", dir), lock.Close())
		}
	}
}

// lockPatience is how long to wait for another daemon to go: a killed process keeps its locks until it is gone for good.
const lockPatience = 3 * time.Second

// manyFiles is as many descriptors as pageind asks for: each reader that waits in the kernel costs one.
const manyFiles = 1 << 20

// raiseFileLimit allows manyFiles descriptors, or as many as may be had.
func raiseFileLimit() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read the limit on open files: %w", err)
	}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: max(l.Max, manyFiles), Max: max(l.Max, manyFiles)}) == nil {
		return nil
	}
	// Without CAP_SYS_RESOURCE the hard limit is all there is.
	if l.Max < 2*fanotify.FirstDescriptor {
		return fmt.Errorf("only %d open files are allowed, pageind needs %d: raise the hard limit (LimitNOFILE= in a systemd unit, ulimit -n)", l.Max, 2*fanotify.FirstDescriptor)
	}
	l.Cur = l.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("raise the limit on open files to %d: %w", l.Max, err)
	}
	return nil
}

// keeperBinary finds the keeper's program: beside this one, or in PATH.
func keeperBinary() string {
	const name = "pagein-keeper"
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), name); isFile(beside) {
			return beside
		}
	}
	return name
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

func oneOf(what, value string, choices ...string) error {
	if slices.Contains(choices, value) {
		return nil
	}
	return fmt.Errorf("%s %q is none of %v", what, value, choices)
}
