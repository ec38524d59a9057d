package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
)

// report is the result; its JSON form is read by bench.
type report struct {
	Transport   string        `json:"transport"`       // through which the kernel's misses reached pageind
	Kernel      string        `json:"kernel"`          // its release
	Guest       string        `json:"guest,omitempty"` // "kvm" or "tcg" when it was measured in a virtual machine
	Link        linkReport    `json:"link"`
	Image       imageReport   `json:"image"`
	Convert     convertReport `json:"convert"`
	Runs        int           `json:"runs"`
	FullPull    timing        `json:"fullPull"`
	Lazy        timing        `json:"lazy"`
	ReadyRatio  float64       `json:"readyRatio"`  // lazy.ready / fullPull.ready
	OutputRatio float64       `json:"outputRatio"` // lazy.output / fullPull.output
}

type linkReport struct {
	RateMbit float64 `json:"rateMbit"`
	RTTms    float64 `json:"rttMs"`
}

type imageReport struct {
	Layers          int   `json:"layers"`
	CompressedBytes int64 `json:"compressedBytes"` // of all layers, as pulled
	UnpackedBytes   int64 `json:"unpackedBytes"`   // of the files in them
}

type convertReport struct {
	Seconds float64 `json:"seconds"`
}

// timing is one way from nothing to a running program. Times are in seconds from the start, bytes are what the registry sent.
type timing struct {
	Provided    float64 `json:"provided"`    // until the file system is there
	Ready       float64 `json:"ready"`       // until go version has printed its line
	Output      float64 `json:"output"`      // until the compiled program has printed its line
	ReadyBytes  int64   `json:"readyBytes"`  // fetched by then
	OutputBytes int64   `json:"outputBytes"` // fetched by then
}

// median takes the median of every field by itself.
func median(all []timing) timing {
	return timing{
		Provided: middle(all, func(t timing) float64 { return t.Provided }), Ready: middle(all, func(t timing) float64 { return t.Ready }),
		Output: middle(all, func(t timing) float64 { return t.Output }), ReadyBytes: middle(all, func(t timing) int64 { return t.ReadyBytes }),
		OutputBytes: middle(all, func(t timing) int64 { return t.OutputBytes }),
	}
}

func middle[T cmp.Ordered](all []timing, field func(timing) T) T {
	values := make([]T, len(all))
	for i, t := range all {
		values[i] = field(t)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// print writes the table.
func (r report) print(w io.Writer) error {
	line := func(cells ...any) { fmt.Fprintf(w, "%-38s %16s %16s %7s\n", cells...) }
	row := func(what, unit string, lazy, full float64, decimals int) {
		cell := func(value float64) string { return fmt.Sprintf("%.*f %s", decimals, value, unit) }
		line(what, cell(lazy), cell(full), fmt.Sprintf("%.2f", lazy/full))
	}
	size := func(what string, lazy, full int64) { row(what, "MB", float64(lazy)/1e6, float64(full)/1e6, 1) }

	line("", "pagein", "pull and unpack", "ratio")
	size("bytes in image", r.Image.CompressedBytes, r.Image.CompressedBytes)
	size("fetched until ready", r.Lazy.ReadyBytes, r.FullPull.ReadyBytes)
	size("fetched until the program's output", r.Lazy.OutputBytes, r.FullPull.OutputBytes)
	row("time to the file system", "s", r.Lazy.Provided, r.FullPull.Provided, 2)
	row("time to ready: go version", "s", r.Lazy.Ready, r.FullPull.Ready, 2)
	row("time to the compiled program's output", "s", r.Lazy.Output, r.FullPull.Output, 2)
	where := r.Kernel
	if r.Guest != "" {
		where += " in a virtual machine (" + r.Guest + ")"
	}
	_, err := fmt.Fprintf(w, "\nTransport: %s, kernel %s.\nImage: Go toolchain, %d gzip layers, %.1f MB unpacked; converted once for all nodes in %.1f s.\n"+
		"Link: %.0f Mbit/s each way, %.0f ms round trip; registry: distribution; full pull: crane export | tar -x.\n"+
		"Page cache dropped before each way; %d run(s) of each.\n",
		r.Transport, where, r.Image.Layers, float64(r.Image.UnpackedBytes)/1e6, r.Convert.Seconds, r.Link.RateMbit, r.Link.RTTms, r.Runs)
	return err
}
