package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/node/control"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:        "status",
		Usage:       "show what pageind serves, and through what",
		Description: statusDescription,
		Flags:       []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() != 0 {
				return misuse(c, "unexpected operand %q", c.Args().First())
			}
			client, err := daemon(c)
			if err != nil {
				return err
			}
			defer client.Close()
			status, err := client.Status(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c, status)
			}
			return printStatus(c.App.Writer, status, time.Now())
		},
	}
}

const statusDescription = `PRESENT and OF are bytes of an image's blobs as they are unpacked, on this node and in all; FETCHED is what came of these blobs since pageind started, compressed.
A blob that several images share counts for each of them, whichever of them it was fetched for. REF is what an image was mounted by or, of one that containerd pulled,
the name that it was pulled by first; --json has that as names, beside ref, the artifact's digest.`

// printStatus writes the status for people.
func printStatus(w io.Writer, s control.Status, now time.Time) error {
	keeper := s.Keeper
	if keeper == "" {
		keeper = "none: lazy mounts through fanotify are refused"
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "pageind\t%s, process %d, running for %s\n", s.Version, s.PID, now.Sub(s.Started).Round(time.Second))
	fmt.Fprintf(out, "store\t%s\n", s.Root)
	fmt.Fprintf(out, "keeper\t%s\n", keeper)
	if s.Problem != "" {
		fmt.Fprintf(out, "problem\t%s\n", s.Problem)
	}
	fmt.Fprintf(out, "transport\t%s\n", s.Transport)
	for _, t := range s.Transports {
		fmt.Fprintf(out, "  %s\t%s\n", t.Name, transportState(t))
	}
	t := s.Totals
	fmt.Fprintf(out, "fetched\t%s in %s, %d failed, %d repeated, %d asked twice\n", size(t.BackendBytes), count(t.BackendRequests, "request"), t.BackendErrors, t.BackendRetries,
		t.BackendHedges)
	fmt.Fprintf(out, "  of that\t%s for readers, %s ahead of them, %s guessed around them, %s prefetched, %s of no use\n", size(t.DemandBytes), size(t.AheadBytes), size(t.AroundBytes),
		size(t.PrefetchBytes), size(t.UselessBytes))
	fmt.Fprintf(out, "misses\t%s, %s, %d waiting\n", count(t.MissTime.Count, "answered"), count(t.FailedReads, "failed"), t.WaitingReads)
	if t.MissTime.Count > 0 {
		fmt.Fprintf(out, "  in all\t%s\n", quantiles(t.MissTime))
		fmt.Fprintf(out, "  pageind's own\t%s\n", quantiles(t.OwnTime))
	}
	printCache(out, s.Cache)
	if len(s.Images) == 0 {
		fmt.Fprintln(out, "images\tnone")
		if err := out.Flush(); err != nil {
			return err
		}
		return printUnpacked(w, s.Unpacked)
	}
	fmt.Fprintf(out, "images\t%d; what is present counts unpacked, what was fetched since pageind started as it came, compressed\n", len(s.Images))
	if err := out.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nID\tTRANSPORT\tSTATE\tPRESENT\tOF\tFETCHED\tREF\tMOUNTED ON")
	for _, i := range s.Images {
		fmt.Fprintf(out, "%.12s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", i.ID, i.Transport, i.State, size(i.PresentBytes), size(i.TotalBytes), size(i.FetchedBytes), shownRef(i),
			places(i.Targets))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	for _, i := range s.Images {
		if i.Policy != s.Policy {
			if _, err := fmt.Fprintf(w, "\n%.12s: deadline %s, prefetch %s\n", i.ID, i.Deadline, i.Prefetch); err != nil {
				return err
			}
		}
		if i.Problem != "" {
			if _, err := fmt.Fprintf(w, "\n%.12s: %s: %s\n", i.ID, stateWords(i.State), i.Problem); err != nil {
				return err
			}
		}
	}
	return printUnpacked(w, s.Unpacked)
}

// printUnpacked lists images that could have been lazy, and why they are not.
func printUnpacked(w io.Writer, all []control.Unpacked) error {
	for _, u := range all {
		if _, err := fmt.Fprintf(w, "\n%s: unpacked as any other image on %s: %s\n", u.Image, u.At.Local().Format(time.DateTime), u.Reason); err != nil {
			return err
		}
	}
	if len(all) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(w, "\nWhat is unpacked stays so: once the reason is gone, remove the image (ctr images rm --sync IMAGE) and pull it again.")
	return err
}

// stateWords says what a problem means for readers.
func stateWords(s control.State) string {
	switch s {
	case control.Failing:
		return "readers got errors, the next read tries again"
	case control.Lost:
		return "not served, or not mounted again"
	}
	return "readers wait, it is tried again"
}

func transportState(t control.Transport) string {
	switch {
	case t.InUse:
		return "in use"
	case t.Available:
		return "available"
	default:
		return "no: " + t.Reason
	}
}

func quantiles(q control.Quantiles) string {
	const digits = 10 * time.Microsecond
	return fmt.Sprintf("half within %s, 99 %% within %s, at most %s", q.P50.Round(digits), q.P99.Round(digits), q.Max.Round(digits))
}

func size(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }

// count words a number: "1 request", "3 requests"; words that are no nouns stay as they are.
func count(n int64, word string) string {
	if n != 1 && !strings.HasSuffix(word, "ed") {
		word += "s"
	}
	return humanize.Comma(n) + " " + word
}

// shownRef is what people know an image by: the name that it was pulled by, or else its reference.
func shownRef(i control.Image) string {
	if len(i.Names) > 0 {
		return strings.Join(i.Names, ",")
	}
	return i.Ref
}

// places says where an image is mounted. One that is mounted nowhere here is still in use: by an open file, or in another mount namespace.
func places(targets []string) string {
	if len(targets) == 0 {
		return "(in use)"
	}
	return strings.Join(targets, " ")
}
