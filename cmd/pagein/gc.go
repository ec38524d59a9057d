package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/node/control"
)

func gcCommand() *cli.Command {
	return &cli.Command{
		Name:        "gc",
		Usage:       "remove from the node what nobody has mounted",
		Description: "What was used longest ago goes first. It is fetched again when it is mounted and read.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Usage: "only say what would go"},
			&cli.StringFlag{Name: "free", Usage: "stop when `SIZE`, such as 10GB, has been given back (default all that can go)"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 0 {
				return misuse(c, "unexpected operand %q", c.Args().First())
			}
			req := control.GCRequest{DryRun: c.Bool("dry-run")}
			if s := c.String("free"); s != "" {
				n, err := humanize.ParseBytes(s)
				if err != nil || n == 0 || n > 1<<60 {
					return misuse(c, "%q is no size such as 10GB", s)
				}
				req.Bytes = int64(n)
			}
			client, err := daemon(c)
			if err != nil {
				return err
			}
			defer client.Close()
			resp, err := client.GC(c.Context, req)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c, resp)
			}
			return printGC(c.App.Writer, resp, time.Now())
		},
	}
}

// printGC writes for people what went.
func printGC(w io.Writer, r control.GCResponse, now time.Time) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, e := range r.Evicted {
		fmt.Fprintf(out, "%s\t%.12s\t%s\tlast used %s\n", e.Kind, e.ID, size(e.Bytes), humanize.RelTime(e.Used, now, "ago", "from now"))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	done := "given back"
	if r.DryRun {
		done = "would be given back"
	}
	_, err := fmt.Fprintf(w, "%s %s\n", size(r.Bytes), done)
	return err
}

// printCache writes for people what the store keeps.
func printCache(out io.Writer, c control.Cache) {
	fmt.Fprintf(out, "cache\t%s, %s of %s free on its disk", size(c.Bytes), size(c.FreeBytes), size(c.TotalBytes))
	if c.ReserveBytes > 0 {
		fmt.Fprintf(out, ", %s more in reserve", size(c.ReserveBytes))
	}
	limits := "none"
	switch {
	case c.HighPercent > 0:
		limits = fmt.Sprintf("from %d%% of the disk down to %d%%", c.HighPercent, c.LowPercent)
	case c.HighBytes > 0:
		limits = fmt.Sprintf("from %s down to %s", size(c.HighBytes), size(c.LowBytes))
	}
	var evicted int64
	for _, n := range c.Evicted {
		evicted += n
	}
	fmt.Fprintf(out, "\n  limits\t%s, %s evicted\n", limits, size(evicted))
	printOver(out, c)
	if c.Untracked > 0 {
		fmt.Fprintf(out, "  ranges\tof %s cannot be evicted before they are unmounted\n", count(int64(c.Untracked), "mounted blob"))
	}
}

// heldWords say why something cannot be evicted.
var heldWords = []struct{ reason, words string }{
	{control.HeldMounted, "of images that are mounted; remove those that are not needed, or see evict-mounted-ranges"},
	{control.HeldComplete, "of blobs that are complete, until they are unmounted"},
	{control.HeldUntracked, "of blobs not all of whose reads are known, until they are unmounted"},
}

// printOver writes what has to go, and what cannot.
func printOver(out io.Writer, c control.Cache) {
	if c.OverBytes == 0 && c.OverFiles == 0 {
		return
	}
	fmt.Fprintf(out, "  over\t%s", size(c.OverBytes))
	if c.OverFiles > 0 {
		fmt.Fprintf(out, " and %s", count(c.OverFiles, "inode"))
	}
	fmt.Fprintln(out, " have to go; of the store, these cannot be evicted:")
	for _, h := range heldWords {
		if n := c.Held[h.reason]; n > 0 {
			fmt.Fprintf(out, "    %s\t%s %s\n", h.reason, size(n), h.words)
		}
	}
}
