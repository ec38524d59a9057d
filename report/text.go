package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

// What [Report.Text] prints at most.
const (
	textFiles  = 15
	textMisses = 15
)

// Text writes the report for a terminal: all names are printable.
func (r *Report) Text(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, Printable(r.Title))
	if r.Measured {
		fmt.Fprintf(out, "image %.12s, %s, %s\n", r.ID, r.Transport, r.State)
	}
	if r.Problem != "" {
		fmt.Fprintf(out, "problem: %s\n", Printable(r.Problem))
	}
	if len(r.Phases) > 0 {
		heading(out, "when")
		for _, p := range r.Phases {
			fmt.Fprintf(out, "  %s\t%s\n", offset(p.At), p.Name)
		}
	}
	if r.Measured {
		r.textWaits(out)
		r.textFetched(out)
	}
	heading(out, "image")
	fmt.Fprintf(out, "  read\t%s of %s, unpacked%s\n", r.seen(bytes(r.Image.ReadBytes)), known(r.Image.Bytes, bytes), r.seenPart())
	fmt.Fprintf(out, "  files\t%s of %s\n", r.seen(humanize.Comma(int64(r.Image.Read))), known(int64(r.Image.Files), humanize.Comma))
	if r.Image.Brought > 0 {
		fmt.Fprintf(out, "  prefetched\t%s more in %s, of which reads may not be seen\n", bytes(r.Image.Brought), count(r.Image.InFiles, "file", "files"))
	}
	r.textNow(out)
	r.textFiles(out)
	r.textMisses(out)
	heading(out, "advice")
	for _, a := range r.Advice {
		fmt.Fprintf(out, "  - %s\n", a)
	}
	return out.Flush()
}

// seen is a figure of what was read, unless reads are not seen and none was.
func (r *Report) seen(figure string) string {
	if r.Unseen && r.Image.ReadBytes == 0 {
		return "not seen"
	}
	return figure
}

// seenPart says which part of the image was read, if reads are seen.
func (r *Report) seenPart() string {
	switch {
	case r.Unseen && r.Image.ReadBytes == 0:
		return ""
	case r.Unseen:
		return fmt.Sprintf(" (%s, and what is not seen)", percent(r.Image.ReadBytes, r.Image.Bytes))
	}
	return fmt.Sprintf(" (%s)", percent(r.Image.ReadBytes, r.Image.Bytes))
}

func heading(w io.Writer, name string) { fmt.Fprintf(w, "\n%s\n", strings.ToUpper(name)) }

// known words a number that is not 0.
func known(n int64, words func(int64) string) string {
	if n == 0 {
		return "?"
	}
	return words(n)
}

func offset(d time.Duration) string {
	if d >= 10*time.Minute {
		return "+" + d.Round(time.Second).String()
	}
	return fmt.Sprintf("%+.3f s", d.Seconds())
}

func (r *Report) textWaits(w io.Writer) {
	heading(w, "waiting")
	if len(r.Now) > 0 {
		fmt.Fprintf(w, "  %s\n", r.waitingNow())
	}
	if r.Waits.Count == 0 && len(r.Now) == 0 {
		fmt.Fprintln(w, "  no read waited")
	}
	if r.Waits.Count == 0 {
		return
	}
	fmt.Fprintf(w, "  %s waited\t%s in all, %s in which at least one did, at most %s\n", count(r.Waits.Count, "read", "reads"), seconds(r.Waits.Sum), seconds(r.Waits.Any), seconds(r.Waits.Longest))
	rest := r.Waits.Sum
	for _, p := range parts(r.Waits.Cost) {
		fmt.Fprintf(w, "  for %s\t%s (%s)\n", partWords(p.Name), seconds(p.Took), percent(p.Took, r.Waits.Sum))
		rest -= p.Took
	}
	if r.Waits.InVain > 0 {
		fmt.Fprintf(w, "  in vain\t%s (%s), for a server that does not answer, or another attempt\n", seconds(r.Waits.InVain), percent(r.Waits.InVain, r.Waits.Sum))
		rest -= r.Waits.InVain
	}
	fmt.Fprintf(w, "  for the rest\t%s (%s)\n", seconds(max(rest, 0)), percent(max(rest, 0), r.Waits.Sum))
	if r.Waits.Joined > 0 {
		fmt.Fprintf(w, "  of these\t%s came when the bytes were on their way already\n", humanize.Comma(int64(r.Waits.Joined)))
	}
	if r.Waits.Failed > 0 {
		fmt.Fprintf(w, "  of these\t%s\n", r.failed())
	}
	if r.Left > 0 {
		fmt.Fprintf(w, "  and\t%s between the first and the latest are kept no more\n", count(int(r.Left), "event", "events"))
	}
}

// partWords says what a part of the waiting is for, "" for none.
func partWords(part string) string {
	switch part {
	case "queue":
		return "a free request"
	case "server":
		return "the server's answer"
	case "transfer":
		return "bytes on their way"
	case "verify":
		return "unpacking and verifying"
	}
	return ""
}

func (r *Report) textFetched(w io.Writer) {
	heading(w, "fetched")
	fmt.Fprintf(w, "  in all\t%s of %s, compressed\n", bytes(r.Image.Fetched), known(r.Image.Compressed, bytes))
	for _, f := range r.Fetched {
		fmt.Fprintf(w, "  %s\t%s in %s\n", reasonWords(f.Reason), bytes(f.Bytes), count(f.Requests, "request", "requests"))
	}
	for _, s := range r.Sites {
		fmt.Fprintf(w, "  from %s\t%s, %s failed", Printable(s.Name), count(s.Requests, "request", "requests"), humanize.Comma(int64(s.Failed)))
		if s.Failed < s.Requests {
			fmt.Fprintf(w, ", half of the answers began within %s", seconds(s.Answer))
		}
		fmt.Fprintln(w)
	}
	for _, e := range r.Errors[:min(len(r.Errors), 5)] {
		fmt.Fprintf(w, "  failed\t%s, %s: %s\n", e.what(), e.when(), Printable(e.Text))
	}
	if c := r.Curve; c.Full > 0 {
		what := "the whole image would have come in " + seconds(c.Full)
		if c.PrefetchBytes > 0 {
			what += ", what was read in " + seconds(c.Prefetched)
		}
		if c.Measured {
			what += "; the rate is the most that came in 200 ms of this recording"
		}
		fmt.Fprintf(w, "  at %s\t%s\n", rate(c.Link), what)
	}
}

// reasonWords says why something was fetched.
func reasonWords(reason string) string {
	switch reason {
	case "demand":
		return "for readers"
	case "ahead":
		return "ahead of readers"
	case "around":
		return "guessed around them"
	case "prefetch":
		return "prefetched"
	}
	return Printable(reason)
}

// waitingNow says how many reads wait, and for how long.
func (r *Report) waitingNow() string {
	longest := time.Duration(0)
	for _, m := range r.Now {
		longest = max(longest, m.Took)
	}
	return fmt.Sprintf("%s now, for up to %s", count(len(r.Now), "read waits", "reads wait"), seconds(longest))
}

func (r *Report) textNow(w io.Writer) {
	if len(r.Now) == 0 {
		return
	}
	heading(w, "waiting now")
	for _, m := range r.Now[:min(len(r.Now), textMisses)] {
		fmt.Fprintf(w, "  %s\t%s\n", seconds(m.Took), m.where())
	}
}

func (m Miss) where() string { return fmt.Sprintf("%s at %d, %s", m.Name(), m.Off, bytes(m.Len)) }

// Slowest returns the files that readers waited for longest.
func (r *Report) Slowest(most int) []Used {
	files := slices.Clone(r.Files)
	files = slices.DeleteFunc(files, func(f Used) bool { return f.Waits == 0 })
	slices.SortStableFunc(files, func(a, b Used) int { return cmp.Compare(b.Waited, a.Waited) })
	return files[:min(len(files), most)]
}

func (r *Report) textFiles(w io.Writer) {
	slowest := r.Slowest(textFiles)
	if len(slowest) > 0 {
		heading(w, "slowest files")
		fmt.Fprintln(w, "  WAITED\tREADS\tLONGEST\tREAD\tOF\tFILE")
		for _, f := range slowest {
			fmt.Fprintf(w, "  %s\t%d\t%s\t%s\t%s\t%s\n", seconds(f.Waited), f.Waits, seconds(f.Longest), bytes(f.Read), known(f.Size, bytes), f.Name())
		}
	}
	if !r.Measured && len(r.Files) > 0 {
		heading(w, "first files")
		for _, f := range r.Files[:min(len(r.Files), textFiles)] {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", offset(f.First), bytes(f.Read), f.Name())
		}
	}
}

func (r *Report) textMisses(w io.Writer) {
	if len(r.Misses) == 0 {
		return
	}
	heading(w, "first reads that waited")
	fmt.Fprintln(w, "  AT\tWAITED\tMOSTLY FOR\tREAD")
	for _, m := range r.Misses[:min(len(r.Misses), textMisses)] {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", offset(m.At), seconds(m.Took), m.Cause(), m.where())
	}
	if more := len(r.Misses) - textMisses; more > 0 {
		fmt.Fprintf(w, "  and %s: --json has all, pagein report draws them\n", count(more, "more", "more"))
	}
}

// Cause says in words what a reader waited for mostly.
func (m Miss) Cause() string {
	name, _ := largest(m.Cost)
	text := partWords(name)
	switch {
	case m.Err != "":
		return "an error: " + briefly(m.Err)
	case text == "":
		text = "pagein"
	}
	if m.Joined != "" {
		text += " (on its way " + reasonWords(m.Joined) + ")"
	}
	return text
}
