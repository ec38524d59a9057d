// Command demo does pagein's main job with a real image on the machine it runs on, and beside it what one does without pagein: it builds
// an image of the Go toolchain, serves it from a registry behind a slow link, and measures how long it takes until a program of the image
// runs, once mounted lazily, once after pulling and unpacking all of it with tools that are not ours.
//
// It knows pagein only as a user does, through its programs; everything it makes lies in one temporary directory that is gone when it ends.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pagein/pagein/bench/lab"
)

// options are what can be chosen on the command line.
type options struct {
	runs      int
	rate      float64 // Mbit/s
	rtt       time.Duration
	json      bool
	probe     bool
	vm        bool
	published string // directory; empty: make the images
}

func main() {
	var o options
	flag.IntVar(&o.runs, "runs", 1, "measure each way this `often`, from cold every time, and report the medians")
	flag.Float64Var(&o.rate, "rate", 200, "rate of the link to the registry in `Mbit/s`, each direction")
	flag.DurationVar(&o.rtt, "rtt", 10*time.Millisecond, "round-trip `time` of the link")
	flag.BoolVar(&o.json, "json", false, "print the result as JSON")
	flag.BoolVar(&o.probe, "probe", false, "only say whether this machine can mount lazily; the exit status is 0 if it can")
	flag.BoolVar(&o.vm, "vm", false, "measure in a virtual machine, as is done by itself where this machine cannot mount lazily")
	flag.StringVar(&o.published, "published", "", "use the images in `DIR`, which a demo outside of this virtual machine has prepared")
	flag.Parse()
	if flag.NArg() > 0 || o.runs < 1 || o.rate <= 0 || o.rtt < 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		if errors.Is(ctx.Err(), context.Canceled) {
			os.Exit(130) // as a shell reports a program ended by ^C
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	why, err := "as asked for", error(nil)
	if !o.vm && o.published == "" {
		if why, err = obstacle(ctx); err != nil {
			return err
		}
	}
	if o.probe {
		if why != "" {
			return errors.New(why)
		}
		return nil
	}
	play := onThisMachine
	if o.published == "" && why != "" {
		fmt.Fprintf(os.Stderr, "demo: %s: measuring in a virtual machine\n", why)
		play = inGuest
	}
	result, err := play(ctx, o)
	if err != nil {
		return err
	}
	if o.json {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(result)
	}
	return result.print(os.Stdout)
}

// onThisMachine prepares the images, unless they were prepared before, measures both ways, and cleans up, also after an error or a ^C.
func onThisMachine(ctx context.Context, o options) (result report, err error) {
	s, err := newStage(ctx, o)
	if err != nil {
		return report{}, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var p published
	if o.published != "" {
		p, err = readPublished(o.published)
	} else if p.Image, err = s.publish(ctx); err == nil {
		p.Convert, err = s.convert(ctx)
	}
	if err != nil {
		return report{}, err
	}
	var full, lazy []timing
	for i := range o.runs {
		s.progress("run %d of %d: pulling and unpacking the whole image, then using it", i+1, o.runs)
		t, err := s.fullPull(ctx)
		if err != nil {
			return report{}, err
		}
		full = append(full, t)
		s.progress("run %d of %d: mounting it lazily, and using it at once", i+1, o.runs)
		t, result.Transport, err = s.lazyMount(ctx)
		if err != nil {
			return report{}, err
		}
		lazy = append(lazy, t)
	}
	if result.Kernel, err = lab.KernelRelease(); err != nil {
		return report{}, err
	}
	result.Image, result.Convert, result.Runs = p.Image, p.Convert, o.runs
	result.Link = linkReport{RateMbit: o.rate, RTTms: float64(o.rtt) / float64(time.Millisecond)}
	result.FullPull, result.Lazy = median(full), median(lazy)
	result.ReadyRatio = result.Lazy.Ready / result.FullPull.Ready
	result.OutputRatio = result.Lazy.Output / result.FullPull.Output
	return result, nil
}
