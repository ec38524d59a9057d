// Command soak treats pageind badly for as long as it is told to, and checks every byte that readers see meanwhile.
//
// It mounts and unmounts images that share blobs, reads them in other processes, kills the daemon, its keeper and the readers, has the registry fail, lie and stall, fills the
// store's disk, drops the kernel's caches and collects garbage, in an order that a seed decides. From time to time it lets all be well again, reads every image
// whole, unmounts everything and looks for what was left behind. It knows pagein as people do: by its programs, its API, and what the kernel shows.
// The one idea to hold in mind: a schedule does not depend on what happens, so a seed brings the same misfortunes in the same order again, though never the same races.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// options say how long and how badly.
type options struct {
	seed      uint64
	length    time.Duration
	round     time.Duration // between two moments at which all is checked
	pause     time.Duration // at most, between two actions
	readers   int           // at the same time, at most
	transport string
	dir       string // where everything is kept, "" for a temporary directory
	keep      bool   // the directory after a failure
	without   string // actions that are left out
	verbose   bool
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == readerCommand {
		if err := readerMain(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintf(os.Stderr, "reader: %v\n", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano())%1_000_000, "of the schedule")
	flag.DurationVar(&o.length, "time", 30*time.Minute, "how long")
	flag.DurationVar(&o.round, "round", 40*time.Second, "how long until all is put right and checked")
	flag.DurationVar(&o.pause, "pause", 250*time.Millisecond, "the longest pause between two actions")
	flag.IntVar(&o.readers, "readers", 8, "how many processes read at the same time, at most")
	flag.StringVar(&o.transport, "transport", "auto", "through which images are mounted")
	flag.StringVar(&o.dir, "dir", "", "directory to work in, on ext4, xfs or btrfs (default: a temporary one)")
	flag.StringVar(&o.without, "without", "", "actions to leave out, separated by commas")
	flag.BoolVar(&o.keep, "keep", false, "keep the directory, with the daemon's log, when something was wrong")
	flag.BoolVar(&o.verbose, "v", false, "say what is done")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "soak: %v\n", err)
		stop()
		os.Exit(1)
	}
}

// run soaks and prints the report. The error is the first thing that was wrong.
func run(ctx context.Context, o options) (err error) {
	fmt.Printf("soak: seed %d, %v\n", o.seed, o.length)
	place, err := newPlace(ctx, o)
	if err != nil {
		return err
	}
	s, err := newSoak(ctx, o, place)
	if err == nil {
		err = s.rounds(ctx)
		s.report(err)
		if err != nil {
			fmt.Printf("the end of the daemon's log:\n%s\n", s.daemon.tail())
		}
	}
	return place.remove(err, s)
}
