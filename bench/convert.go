package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pagein/pagein/bench/inputs"
	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/oci/convert"
)

// benchConvert compares pagein convert of image A, whose layers are gzip, with its conversion to eStargz and with inflating its layers and nothing else.
// Everything is in the page cache, and results go to this disk.
func benchConvert(ctx context.Context, b *bench) ([]result, error) {
	image, err := inputs.ImageA(ctx, b.progress)
	if err != nil {
		return nil, err
	}
	blobs, err := filepath.Glob(filepath.Join(image, "blobs", "sha256", "*"))
	if err != nil {
		return nil, err
	}
	if err := lab.Warm(blobs...); err != nil {
		return nil, err
	}
	pagein, err := lab.Ours("pagein")
	if err != nil {
		return nil, err
	}
	peers, err := lab.Ours("bench-peers")
	if err != nil {
		return nil, err
	}
	out := filepath.Join(b.dir, "converted")
	fresh := func() error { return os.RemoveAll(out) }
	var made convert.Result
	var estargzSize string
	ours := &contestant{
		name: "pagein convert", prepare: fresh,
		command: func(ctx context.Context) *exec.Cmd {
			return lab.Command(ctx, pagein, "convert", "--json", "--temp-dir", b.dir, "oci:"+image, "oci:"+out)
		},
		finish: func(text []byte) error { return json.Unmarshal(text, &made) },
	}
	estargz := &contestant{
		name: "eStargz", prepare: fresh,
		command: func(ctx context.Context) *exec.Cmd {
			cmd := lab.Command(ctx, peers, "estargz", image, out)
			cmd.Env = append(os.Environ(), "TMPDIR="+b.dir)
			return cmd
		},
		finish: func(text []byte) error { estargzSize = strings.TrimSpace(string(text)); return nil },
	}
	inflate := func(name, library string) *contestant {
		return &contestant{name: name, command: func(ctx context.Context) *exec.Cmd { return lab.Command(ctx, peers, "inflate", library, image) }}
	}
	std, klauspost := inflate("compress/gzip", "std"), inflate("klauspost/compress/gzip", "klauspost")
	defer os.RemoveAll(out)

	b.progress("convert: image A, and inflating it, %d runs", b.runs)
	if err := compete(ctx, b.runs, ours, std, klauspost); err != nil {
		return nil, err
	}
	b.progress("convert: image A to eStargz, once, which takes minutes")
	if err := compete(ctx, 1, estargz); err != nil {
		return nil, err
	}
	sizes := fmt.Sprintf("; %.1f MB of %.1f MB, eStargz %s bytes", float64(made.Stored)/1e6, float64(made.Input)/1e6, estargzSize)
	wall := b.faster("convert time, image A", 0.15, ours, estargz)
	wall.Detail += sizes
	return []result{
		wall,
		atMost("convert CPU time, image A", median(ours.cpu)/median(estargz.cpu), 0.15, "", fmt.Sprintf("× eStargz: %.1f s / %.1f s", median(ours.cpu), median(estargz.cpu))),
		b.faster("convert time, image A, to inflating", 1.5, ours, std),
		{
			Name: "convert time, image A, to inflating faster", Value: median(ours.seconds) / median(klauspost.seconds),
			Detail: fmt.Sprintf("× klauspost's: %.2f s / %.2f s; CPU %.1f s, %.1f s with klauspost's, %.1f s with Go's", median(ours.seconds), median(klauspost.seconds),
				median(ours.cpu), median(klauspost.cpu), median(std.cpu)),
		},
		{Name: "convert peak memory, image A", Value: ours.peakMiB, Unit: "MiB", Detail: fmt.Sprintf("highest of %d runs; eStargz %.0f MiB", len(ours.seconds), estargz.peakMiB)},
	}, nil
}
