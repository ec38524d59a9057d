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

const usage = `usage: bench-peers estargz LAYOUT DIR          convert the image in an OCI layout as "ctr-remote image convert --estargz" does; DIR gets the result
       bench-peers inflate LIBRARY LAYOUT     only inflate the image's layers, all at once; LIBRARY: std or klauspost
       bench-peers go-erofs IMAGE DIR         write a directory as an EROFS image`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	commands := map[string]func(ctx context.Context, a, b string) error{"estargz": estargzImage, "inflate": inflateImage, "go-erofs": goErofs}
	run, known := commands[os.Args[1]]
	if !known {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	if err := run(ctx, os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintf(os.Stderr, "bench-peers: %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}
