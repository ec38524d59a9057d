// Command pagein makes lazily loadable images and asks the daemon pageind to mount them.
//
// Called as mkfs.pagein it is "pagein mkfs"; called as mount.pagein, the helper of mount(8), it is "pagein mount" with that helper's options.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/envvar"
	"github.com/pagein/pagein/node/control"
)

// version is set by the linker.
var version = "unknown"

// The exit statuses, which scripts rely on.
const (
	exitSuccess = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program the hard way
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

// run is the program: args as in os.Args. It returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := newApp(stdout, stderr)
	plainHTTP := "--plain-http"
	switch filepath.Base(args[0]) {
	case "mkfs.pagein":
		args = append([]string{app.Name, "mkfs"}, args[1:]...)
	case "mount.pagein":
		args = append([]string{app.Name, mountHelperName}, args[1:]...)
		plainHTTP = "-o plain-http"
	}
	err := app.RunContext(ctx, args)
	if err == nil {
		return exitSuccess
	}
	status := exitFailure
	if coded := cli.ExitCoder(nil); errors.As(err, &coded) {
		status = coded.ExitCode()
	}
	if err.Error() != "" { // else the status says it all
		printError(app, interrupted(ctx, withOption(plainHTTP, err)))
	}
	return status
}

// interrupted says in one way of everything that a signal ended that it was interrupted, whatever noticed the end first.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	const word = "interrupted"
	said := strings.NewReplacer(context.Cause(ctx).Error(), word, context.Canceled.Error(), word).Replace(err.Error())
	if !strings.Contains(said, word) {
		said = word + ": " + said
	}
	return errors.New(said)
}

// printError prints an error as the log format wants it.
func printError(app *cli.App, err error) {
	if log, ok := app.Metadata[logKey].(*slog.Logger); ok && app.Metadata[jsonKey] == true {
		log.Error(err.Error())
		return
	}
	fmt.Fprintf(app.ErrWriter, "pagein: %v\n", err)
}

func newApp(stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:            "pagein",
		Usage:           "start containers before their images arrive",
		UsageText:       "pagein [global options] COMMAND [options] [operands]",
		Version:         version,
		HideHelpCommand: true,
		Writer:          stdout,
		ErrWriter:       stderr,
		Metadata:        map[string]any{},
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "address", Value: control.DefaultAddress, EnvVars: envvar.Usable("PAGEIN_ADDRESS"), Usage: "`unix://SOCK` where pageind listens"},
			&cli.PathFlag{Name: "config", Value: defaultConfig, EnvVars: envvar.Usable("PAGEIN_CONFIG"), Usage: "read registries' mirrors, storage and proxy from the TOML file `F`, if it is there"},
			&cli.StringFlag{Name: "log-level", Value: "warn", Usage: "print messages of this `LEVEL` and above: debug, info, warn, error"},
			&cli.StringFlag{Name: "log-format", Value: "text", Usage: "print messages and errors as `FORMAT` text or json"},
			&cli.BoolFlag{Name: "plain-http", Usage: "speak HTTP, not HTTPS, to registries"},
			&cli.BoolFlag{Name: "insecure", Usage: "do not verify registries' certificates"},
			cli.HelpFlag, // which the library leaves out where a command has its name
		},
		Commands: []*cli.Command{
			mkfsCommand(),
			convertCommand(),
			optimizeCommand(),
			copyCommand(),
			rmCommand(),
			signCommand(),
			verifyCommand(),
			inspectCommand(),
			lsCommand(),
			catCommand(),
			diffCommand(),
			exportCommand(),
			checkCommand(),
			mountCommand(),
			mountHelperCommand(),
			umountCommand(),
			prepareCommand(),
			pullCommand(),
			installCommand(),
			uninstallCommand(),
			statusCommand(),
			topCommand(),
			traceCommand(),
			profileCommand(),
			explainCommand(),
			reportCommand(),
			gcCommand(),
			completionCommand(),
			helpCommand(),
			versionCommand(),
		},
		EnableBashCompletion: true,
		// A comma in a value is part of it: options are repeated instead.
		DisableSliceFlagSeparator: true,
		Before:                    setUpLog,
		Action:                    noCommand,
		OnUsageError:              badOption,
		// run decides about the exit status; the library must not end the program.
		ExitErrHandler: func(*cli.Context, error) {},
	}
	for _, c := range app.Commands {
		c.OnUsageError = badOption
		c.HideHelpCommand = true
		takeOptionsAnywhere(c)
	}
	return app
}

// Keys of the app's metadata.
const (
	logKey  = "log"      // *slog.Logger
	jsonKey = "log-json" // bool
)

// setUpLog makes the logger that the global flags ask for.
func setUpLog(c *cli.Context) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return misuse(c, "log level %q is none of debug, info, warn, error", c.String("log-level"))
	}
	options := &slog.HandlerOptions{Level: level}
	switch format := c.String("log-format"); format {
	case "text":
		c.App.Metadata[logKey] = slog.New(slog.NewTextHandler(c.App.ErrWriter, options))
	case "json":
		c.App.Metadata[logKey] = slog.New(slog.NewJSONHandler(c.App.ErrWriter, options))
		c.App.Metadata[jsonKey] = true
	default:
		return misuse(c, "log format %q is neither text nor json", format)
	}
	return nil
}

// misuse is an error that ends the program with the status for wrong usage.
func misuse(c *cli.Context, format string, args ...any) error {
	name := "pagein"
	prefix := ""
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != name {
		prefix = c.Command.Name + ": "
		name += " " + c.Command.Name
	}
	return cli.Exit(fmt.Sprintf("%s%s (see %s --help)", prefix, fmt.Sprintf(format, args...), name), exitUsage)
}

// badOption words what the library says of a global option.
func badOption(c *cli.Context, err error, _ bool) error {
	said := err.Error()
	if name, ok := strings.CutPrefix(said, "flag provided but not defined: -"); ok {
		said = "there is no option --" + name
	} else if name, ok := strings.CutPrefix(said, "flag needs an argument: -"); ok {
		said = "the value of --" + name + " is missing"
	}
	return misuse(c, "%s", said)
}

// noCommand is what happens when the first operand is no command.
func noCommand(c *cli.Context) error {
	if c.NArg() == 0 {
		c.App.Writer = c.App.ErrWriter
		if err := cli.ShowAppHelp(c); err != nil {
			return err
		}
		return misuse(c, "no command is given")
	}
	return misuse(c, "there is no command %q", c.Args().First())
}
