// Command bench measures what pagein promises, each thing beside something else in the same run on the same machine, and prints the ratios.
// Absolute times do not carry over to another machine; ratios mostly do.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/internal/kmount"
)

// result is one measured number.
type result struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit,omitempty"`
	Target string  `json:"target,omitempty"` // in words; empty: reported only
	Met    bool    `json:"met"`
	Detail string  `json:"detail"` // what was compared with what

	Skipped string `json:"skipped,omitempty"` // what a group needs and this machine lacks; then there is nothing but the group's name
}

// atMost is a result with an upper bound.
func atMost(name string, value, limit float64, unit, detail string) result {
	return result{Name: name, Value: value, Unit: unit, Target: strings.TrimSpace(fmt.Sprintf("≤ %g %s", limit, unit)), Met: value <= limit, Detail: detail}
}

// atLeast is a result with a lower bound.
func atLeast(name string, value, limit float64, unit, detail string) result {
	return result{Name: name, Value: value, Unit: unit, Target: strings.TrimSpace(fmt.Sprintf("≥ %g %s", limit, unit)), Met: value >= limit, Detail: detail}
}

// bench is what a group of measurements is given.
type bench struct {
	dir      string // for everything they write; removed when all is done
	runs     int    // how often to repeat what is timed
	progress func(format string, args ...any)

	containers containerOptions
}

func main() {
	kmount.Init()
	if os.Args[0] == allowName && len(os.Args) == 2 {
		fmt.Fprintln(os.Stderr, allow(os.Args[1]))
		os.Exit(1)
	}
	if os.Args[0] == insideName {
		if err := readInside(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	all := groups()
	var names, usual, curves []string
	for _, g := range all {
		names = append(names, g.name)
		if g.curve {
			curves = append(curves, g.name)
		} else {
			usual = append(usual, g.name)
		}
	}
	runs := flag.Int("runs", 5, "repeat what is timed this `often` and take medians")
	only := flag.String("only", strings.Join(usual, ","), "measure only these `groups`, separated by commas; there are curves, too: "+strings.Join(curves, ", "))
	var containers containerOptions
	containers.flags(flag.CommandLine)
	asJSON := flag.Bool("json", false, "print the results as JSON")
	flag.Parse()
	chosen := strings.Split(*only, ",")
	for _, name := range chosen {
		if !slices.Contains(names, name) {
			fmt.Fprintf(os.Stderr, "bench: unknown group %q; known: %s\n", name, strings.Join(names, ", "))
			os.Exit(2)
		}
	}
	if flag.NArg() > 0 || *runs < 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	all = slices.DeleteFunc(all, func(g group) bool { return !slices.Contains(chosen, g.name) })
	results, err := measure(ctx, all, *runs, containers)
	if printErr := write(os.Stdout, results, *asJSON); printErr != nil {
		err = errors.Join(err, printErr)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// measure runs the groups one after the other; one that fails does not keep the others from running.
func measure(ctx context.Context, groups []group, runs int, containers containerOptions) (results []result, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("emptying the page cache and mounting need root: run the benchmarks as root")
	}
	b := &bench{runs: runs, containers: containers, progress: func(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }}
	if b.dir, err = os.MkdirTemp("", "pagein-bench-"); err != nil {
		return nil, fmt.Errorf("make a temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, lab.UnmountBelow(b.dir), os.RemoveAll(b.dir)) }()
	for _, g := range groups {
		if ctx.Err() != nil {
			return results, errors.Join(err, ctx.Err())
		}
		if lacking := g.missing(); lacking != "" {
			results = append(results, result{Name: g.name, Skipped: lacking})
			continue
		}
		got, groupErr := g.run(ctx, b)
		results = append(results, got...)
		if groupErr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", g.name, groupErr))
		}
	}
	return results, err
}

func write(w io.Writer, results []result, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(results)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range results {
		if r.Skipped != "" {
			fmt.Fprintf(t, "%s\t\t\tskipped\tneeds %s\n", r.Name, r.Skipped)
			continue
		}
		verdict := ""
		if r.Target != "" {
			verdict = map[bool]string{true: "met", false: "MISSED"}[r.Met]
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.Name, strings.TrimSpace(fmt.Sprintf("%.3g %s", r.Value, r.Unit)), r.Target, verdict, r.Detail)
	}
	return t.Flush()
}

// spread is a median and the range of the values, in two decimals.
func spread(values []float64) string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", median(values), slices.Min(values), slices.Max(values))
}

// whole is spread without decimals.
func whole(values []float64) string {
	return fmt.Sprintf("%.0f (%.0f–%.0f)", median(values), slices.Min(values), slices.Max(values))
}

// median returns the middle value, of an even number the upper one of the two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
