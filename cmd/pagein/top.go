package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/report"
)

func topCommand() *cli.Command {
	return &cli.Command{
		Name:        "top",
		Usage:       "show live what pageind fetches, and for whom",
		Description: "Below the images stand the files that readers have waited for longest since the last refresh. Ends with Ctrl-C, or when pageind does not answer any more.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "once", Usage: "show one second and end; nothing else than lines is printed"},
			&cli.DurationFlag{Name: "interval", Value: time.Second, Usage: "refresh after this `TIME`, at least 100ms"},
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object a line, as status --json has it, for each refresh"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 0 {
				return misuse(c, "unexpected operand %q", c.Args().First())
			}
			if c.Duration("interval") < 100*time.Millisecond {
				return misuse(c, "interval %s is less than 100ms", c.Duration("interval"))
			}
			client, err := daemon(c)
			if err != nil {
				return err
			}
			defer client.Close()
			show := redraw
			switch {
			case c.Bool("json"):
				show = showJSON
			case c.Bool("once"), !onTerminal(c.App.Writer):
				show = printTop
			}
			files := slowFiles{timeline: client.Timeline, tree: readTree, trees: make(map[string]*report.Tree)}
			err = watchTop(c.Context, client.Status, c.Duration("interval"), c.Bool("once"), func(s interval) error {
				if !c.Bool("json") {
					s.slow = files.look(c.Context, s)
				}
				return show(c.App.Writer, s)
			})
			if errors.Is(err, context.Canceled) { // Ctrl-C is how it ends
				return nil
			}
			return err
		},
	}
}

// interval is what happened between two looks at the daemon.
type interval struct {
	before, now control.Status
	elapsed     time.Duration
	slow        []slowFile // that readers waited for in it
}

// watchTop shows samples until ctx is done, or only one.
func watchTop(ctx context.Context, status func(context.Context) (control.Status, error), every time.Duration, once bool, show func(interval) error) error {
	before, err := status(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Canceled
		}
		now, err := status(ctx)
		if err != nil {
			return err
		}
		at := time.Now()
		if err := show(interval{before: before, now: now, elapsed: at.Sub(last)}); err != nil || once {
			return err
		}
		before, last = now, at
	}
}

// redraw shows an interval in place of the last one, on any terminal that knows the two oldest sequences of ECMA-48: home, and erase to the end.
func redraw(w io.Writer, s interval) error {
	var screen bytes.Buffer
	screen.WriteString("\x1b[H\x1b[J")
	if err := printTop(&screen, s); err != nil {
		return err
	}
	_, err := w.Write(screen.Bytes())
	return err
}

func showJSON(w io.Writer, s interval) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	return out.Encode(s.now)
}

// printTop writes an interval for people.
func printTop(w io.Writer, s interval) error {
	rate := func(of func(control.Totals) int64) float64 {
		return float64(of(s.now.Totals)-of(s.before.Totals)) / s.elapsed.Seconds()
	}
	bytes := func(of func(control.Totals) int64) string { return size(int64(rate(of))) + "/s" }
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	t := s.now.Totals
	fmt.Fprintf(out, "pageind\t%s\tprocess %d\n", s.now.Version, s.now.PID)
	fmt.Fprintf(out, "received\t%s\tfor readers %s, ahead of them %s, prefetched %s\n", bytes(func(t control.Totals) int64 { return t.BackendBytes }),
		bytes(func(t control.Totals) int64 { return t.DemandBytes }), bytes(func(t control.Totals) int64 { return t.AheadBytes + t.AroundBytes }),
		bytes(func(t control.Totals) int64 { return t.PrefetchBytes }))
	fmt.Fprintf(out, "requests\t%.0f/s\t%d under way, %d failed, %d repeated, %d asked twice\n", rate(func(t control.Totals) int64 { return t.BackendRequests }), t.InFlight,
		t.BackendErrors, t.BackendRetries, t.BackendHedges)
	fmt.Fprintf(out, "misses\t%.0f/s\t%d waiting, %d failed\n", rate(func(t control.Totals) int64 { return t.MissTime.Count }), t.WaitingReads, t.FailedReads)
	fmt.Fprintln(out, "\nID\tSTATE\tPRESENT\tOF\tDONE\tREF")
	for _, i := range s.now.Images {
		fmt.Fprintf(out, "%.12s\t%s\t%s\t%s\t%s\t%s\n", i.ID, i.State, size(i.PresentBytes), size(i.TotalBytes), progress(i), shownRef(i))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if err := printSlow(w, s.slow); err != nil {
		return err
	}
	for _, i := range s.now.Images {
		if i.Problem != "" {
			if _, err := fmt.Fprintf(w, "\n%.12s: %s: %s\n", i.ID, stateWords(i.State), i.Problem); err != nil {
				return err
			}
		}
	}
	return nil
}

// progress draws how much of an image is on this node, if that is known.
func progress(i control.Image) string {
	if i.State == control.Lost {
		return "-"
	}
	return bar(i.PresentBytes, i.TotalBytes)
}

// bar draws a part of a whole, ten characters wide.
func bar(part, whole int64) string {
	const width = 10
	n := width
	if whole > 0 {
		n = int(part * width / whole)
	}
	line := []byte("..........")
	for i := range min(n, width) {
		line[i] = '#'
	}
	return string(line)
}
