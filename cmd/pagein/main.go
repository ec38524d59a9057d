// Command pagein converts container images to lazily loadable EROFS images, looks into them and mounts them.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := &cli.App{Name: "pagein", Usage: "start containers before their images arrive", Commands: []*cli.Command{mkfsCommand()}}
	if err := app.RunContext(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "pagein:", err)
		os.Exit(1)
	}
}
