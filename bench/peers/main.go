// Command bench-peers does what other projects do with an image or a tree, through their libraries, so that the benchmarks can run it beside pagein.
// It is a module of its own: what the peers need is none of pagein's dependencies.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: bench-peers estargz LAYOUT DIR          convert the image in an OCI layout as "ctr-remote image convert --estargz" does, into the new layout DIR
       bench-peers inflate LIBRARY LAYOUT     only inflate the image's layers, all at once; LIBRARY: std or klauspost
       bench-peers go-erofs IMAGE DIR         write a directory as an EROFS image
       bench-peers stargz SOCKET ROOT         be stargz-snapshotter's service until told to end
       bench-peers mount SOCKET NAME REF DIR  pull an image through the containerd at SOCKET into its snapshotter NAME, and mount it read-only on DIR
       bench-peers run SOCKET NAME REF CMD…   pull likewise, and run a command in a container of the image`

// command is something that a peer does.
type command struct {
	args int  // how many
	more bool // or more
	run  func(ctx context.Context, args []string) error
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	commands := map[string]command{
		"estargz":  {args: 2, run: func(ctx context.Context, a []string) error { return estargzImage(ctx, a[0], a[1]) }},
		"inflate":  {args: 2, run: func(ctx context.Context, a []string) error { return inflateImage(ctx, a[0], a[1]) }},
		"go-erofs": {args: 2, run: func(ctx context.Context, a []string) error { return goErofs(ctx, a[0], a[1]) }},
		stargz:     {args: 2, run: func(ctx context.Context, a []string) error { return serveStargz(ctx, a[0], a[1]) }},
		"mount":    {args: 4, run: func(ctx context.Context, a []string) error { return mountImage(ctx, a[0], a[1], a[2], a[3]) }},
		"run":      {args: 4, more: true, run: func(ctx context.Context, a []string) error { return runImage(ctx, a[0], a[1], a[2], a[3:]) }},
	}
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	name, args := os.Args[1], os.Args[2:]
	c, known := commands[name]
	if !known || len(args) < c.args || len(args) > c.args && !c.more {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	if err := c.run(ctx, args); err != nil {
		fmt.Fprintf(os.Stderr, "bench-peers: %s: %v\n", name, err)
		os.Exit(1)
	}
}
