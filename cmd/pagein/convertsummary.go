package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/convert"
	"github.com/pagein/pagein/oci/optimize"
)

// convertProgress says how far a conversion is.
func convertProgress(m *meter, p convert.Progress) string {
	switch {
	case p.Pushing:
		return "pushing " + m.text(p.Sent, p.ToSend)
	case p.ToVerify > 0:
		return "verifying what is borrowed, " + m.text(p.Verified, p.ToVerify)
	}
	s := "reading "
	if p.Layers > 1 {
		s += fmt.Sprintf("layer %d of %d, ", p.Layer, p.Layers)
	}
	return s + m.text(p.Read, p.Total) + ", " + humanize.Comma(p.Files) + " files"
}

// convertSummary is what --json prints.
type convertSummary struct {
	Source    string `json:"source"`
	Reference string `json:"reference"` // of the artifact, by digest
	convert.Result
	Optimized *optimize.Result `json:"optimized,omitempty"` // for a profile
	Seconds   float64          `json:"seconds"`
}

// artifact names what was made.
func (r *convertRun) artifact(res convert.Result) oci.Ref {
	dst := r.dst
	dst.Tag, dst.Digest = r.tag, res.Descriptor.Digest
	return dst
}

func (r *convertRun) print(res convert.Result, took time.Duration) error {
	dst := r.artifact(res)
	switch {
	case r.c.Bool("json"):
		return printJSON(r.c, convertSummary{Source: r.src.String(), Reference: dst.String(), Result: res, Optimized: r.laidOut, Seconds: took.Seconds()})
	case r.c.Bool("quiet"):
		return nil
	}
	if _, err := fmt.Fprintln(r.c.App.Writer, dst); err != nil {
		return err
	}
	if err := printConverted(r.c.App.Writer, res, took); err != nil || r.laidOut == nil {
		return err
	}
	return printOptimized(r.c.App.Writer, *r.laidOut)
}

// printConverted writes the summary for people.
func printConverted(w io.Writer, res convert.Result, took time.Duration) error {
	if len(res.Layers) > 1 {
		out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(out, "layer\tinput\tdata\tshared\tborrowed\tunique\tstored\tratio\t")
		for i, l := range res.Layers {
			fmt.Fprintf(out, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", i+1,
				size(l.Input), size(l.Data), size(l.Shared()), size(l.Borrowed), size(l.Unique), size(l.Compressed), ratioText(l.Ratio, l.Input))
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "%s in, %s stored (ratio %s; %s metadata, %s maps, %s indexes), %s sent; %s files, %s frames in %d blobs; %s\n",
		size(res.Input), size(res.Stored), ratioText(res.Ratio, res.Input), size(res.Meta), size(res.Maps), size(res.Indexes), size(res.Sent),
		humanize.Comma(res.Files), humanize.Comma(int64(res.Frames)), res.Blobs, took.Round(time.Millisecond))
	if res.Shared() > 0 {
		fmt.Fprintf(w, "not stored twice: %s in equal files, %s in equal pieces of files\n", size(res.SharedFiles), size(res.SharedChunks))
	}
	if res.Borrowing > 0 {
		fmt.Fprintf(w, "borrowed: %s in %d blobs, of which %s were mounted and %s copied\n", size(res.Borrowed), res.Borrowing, size(res.Mounted), size(res.Copied))
	}
	return nil
}

func ratioText(ratio float64, input int64) string {
	if input == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", ratio)
}
