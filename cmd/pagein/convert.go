package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/convert"
	"github.com/pagein/pagein/oci/image"
	"github.com/pagein/pagein/oci/layout"
	"github.com/pagein/pagein/oci/registry"
)

const convertDescription = `Turns SRC, an image (oci:DIR[:TAG] or HOST/REPOSITORY[:TAG]), a directory (dir:PATH) or a tar (tar:PATH, tar:- for standard
input), into an artifact that can be mounted lazily, and stores it as DST (oci:DIR[:TAG] or HOST/REPOSITORY[:TAG]). Without DST the artifact
is pushed to the repository of SRC without a tag, as a referrer of the image. Layers are verified against the image's digests, and nothing is
pushed before all are. The same image or tar gives the same artifact on every machine; so does a directory, if the file systems report the
holes of sparse files alike. A tag that names anything but an artifact stays where it is.`

// convertCommand is "pagein convert".
func convertCommand() *cli.Command {
	return &cli.Command{
		Name:        "convert",
		Usage:       "make an image, a directory or a tar lazily mountable",
		ArgsUsage:   "SRC [DST]",
		Description: convertDescription,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "platform", Usage: "take the image for `OS/ARCH[/VARIANT]` of an index (default: Linux on this machine's architecture)"},
			&cli.StringFlag{Name: "temp-dir", Usage: "keep blobs in `DIR` until they are pushed; it needs room for the compressed image"},
			&cli.BoolFlag{Name: "quiet", Usage: "print nothing but errors"},
			&cli.BoolFlag{Name: "json", Usage: "print the summary as JSON"},
		},
		Action: func(c *cli.Context) error {
			r, err := newConvertRun(c)
			if err != nil {
				return misuse(c, "%v", err)
			}
			return r.run(c.Context)
		},
	}
}

// convertRun is one call of the command.
type convertRun struct {
	c        *cli.Context
	src, dst oci.Ref
	tag      string // for the artifact; empty if it gets none
	options  convert.Options
	client   *registry.Client
}

// newConvertRun checks the arguments.
func newConvertRun(c *cli.Context) (*convertRun, error) {
	if c.NArg() < 1 || c.NArg() > 2 {
		return nil, fmt.Errorf("want the options, then SRC and DST; there are %d operands", c.NArg())
	}
	r := &convertRun{c: c}
	var err error
	if r.src, err = oci.ParseRef(c.Args().Get(0)); err != nil {
		return nil, err
	}
	if c.NArg() == 1 {
		if r.src.Kind != oci.Registry {
			return nil, errors.New("DST is missing; only for an image in a registry it can be left out")
		}
		r.dst = oci.Ref{Kind: oci.Registry, Host: r.src.Host, Repository: r.src.Repository}
	} else if r.dst, err = parseConvertTarget(c.Args().Get(1)); err != nil {
		return nil, err
	} else {
		r.tag = r.dst.Reference()
	}
	if p := c.String("platform"); p != "" {
		if r.options.Platform, err = image.ParsePlatform(p); err != nil {
			return nil, err
		}
	}
	r.options.TempDir = c.String("temp-dir")
	return r, nil
}

func parseConvertTarget(s string) (oci.Ref, error) {
	dst, err := oci.ParseRef(s)
	switch {
	case err != nil:
		return dst, err
	case dst.Kind != oci.Layout && dst.Kind != oci.Registry:
		return dst, fmt.Errorf("DST %s must be oci:DIR[:TAG] or HOST/REPOSITORY[:TAG]", dst)
	case dst.Digest != "":
		return dst, fmt.Errorf("DST %s names a digest, which only the artifact itself can have", dst)
	}
	return dst, nil
}

func (r *convertRun) run(ctx context.Context) (err error) {
	started := time.Now()
	r.client, err = registry.NewClient(registry.Options{PlainHTTP: r.c.Bool("plain-http"), Insecure: r.c.Bool("insecure")})
	if err != nil {
		return err
	}
	defer r.client.Close()

	quiet := r.c.Bool("quiet")
	progress := newProgressLine(r.c.App.ErrWriter, quiet)
	r.options.Progress = func(p convert.Progress) { progress.show(func() string { return convertProgress(p) }) }
	r.options.Note = func(message string) {
		if !quiet {
			progress.clear()
			fmt.Fprintf(r.c.App.ErrWriter, "pagein convert: note: %s\n", message)
		}
	}
	result, err := r.convert(ctx)
	progress.clear()
	if err != nil {
		return fmt.Errorf("convert %s: %w", r.src, err)
	}
	return r.print(result, time.Since(started))
}

// convert makes and stores the artifact and gives it its tag.
func (r *convertRun) convert(ctx context.Context) (convert.Result, error) {
	source, err := r.openSource(ctx)
	if err != nil {
		return convert.Result{}, err
	}
	dst, err := r.openTarget()
	if err != nil {
		return convert.Result{}, err
	}
	if err := r.checkTag(ctx, dst); err != nil { // before the work is done
		return convert.Result{}, err
	}
	result, err := source(ctx, dst.Target())
	if err != nil || r.tag == "" {
		return result, err
	}
	if err := r.checkTag(ctx, dst); err != nil { // somebody may have pushed meanwhile
		return result, err
	}
	if err := dst.Target().Tag(ctx, result.Descriptor, r.tag); err != nil {
		return result, fmt.Errorf("tag %s as %q: %w", r.dst, r.tag, registry.Explain(err))
	}
	return result, nil
}

// checkTag refuses to take a name from anything but an artifact: an image that loses its last tag may be gone for good.
func (r *convertRun) checkTag(ctx context.Context, place artifact.Place) error {
	if r.tag == "" {
		return nil
	}
	desc, err := place.Resolve(ctx, r.dst)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find out what DST names: %w", err)
	}
	switch ours, err := place.IsArtifact(ctx, desc); {
	case err != nil:
		return fmt.Errorf("find out what DST %s names: %w", r.dst, err)
	case !ours:
		return fmt.Errorf("DST %s names %s, which is no artifact of pagein; choose another tag, or the image would lose its own", r.dst, desc.Digest)
	}
	return nil
}

// openSource finds the source, so that a wrong name is reported before a destination is made.
func (r *convertRun) openSource(ctx context.Context) (func(context.Context, oras.Target) (convert.Result, error), error) {
	switch r.src.Kind {
	case oci.Dir:
		if _, err := os.Stat(r.src.Path); err != nil {
			return nil, err
		}
		return func(ctx context.Context, dst oras.Target) (convert.Result, error) {
			return convert.Dir(ctx, r.src.Path, dst, r.options)
		}, nil
	case oci.Tar:
		in := io.NopCloser(r.c.App.Reader)
		if r.src.Path != "-" {
			f, err := os.Open(r.src.Path)
			if err != nil {
				return nil, err
			}
			in = f
		}
		return func(ctx context.Context, dst oras.Target) (convert.Result, error) {
			defer in.Close() // only read
			return convert.Tar(ctx, in, dst, r.options)
		}, nil
	}
	place, err := artifact.Open(r.client, r.src)
	if err != nil {
		return nil, err
	}
	desc, err := place.Resolve(ctx, r.src)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, dst oras.Target) (convert.Result, error) {
		return convert.Image(ctx, place.Target(), desc, dst, r.options)
	}, nil
}

func (r *convertRun) openTarget() (artifact.Place, error) {
	if r.dst.Kind == oci.Layout {
		l, err := layout.Create(r.dst.Path)
		return artifact.Place{Layout: l}, err
	}
	return artifact.Open(r.client, r.dst)
}

func convertProgress(p convert.Progress) string {
	if p.Pushing {
		return "pushing"
	}
	s := humanize.IBytes(uint64(p.Read))
	if p.Total > 0 {
		s += " of " + humanize.IBytes(uint64(p.Total))
	}
	if p.Layers > 1 {
		s = fmt.Sprintf("layer %d of %d, %s", p.Layer, p.Layers, s)
	}
	return fmt.Sprintf("%s, %s files", s, humanize.Comma(p.Files))
}

// convertSummary is what --json prints.
type convertSummary struct {
	Source    string `json:"source"`
	Reference string `json:"reference"` // of the artifact, by digest
	convert.Result
	Seconds float64 `json:"seconds"`
}

func (r *convertRun) print(res convert.Result, took time.Duration) error {
	out := r.c.App.Writer
	dst := r.dst
	dst.Tag, dst.Digest = r.tag, res.Descriptor.Digest
	if r.c.Bool("json") {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(convertSummary{Source: r.src.String(), Reference: dst.String(), Result: res, Seconds: took.Seconds()})
	}
	if r.c.Bool("quiet") {
		return nil
	}
	ratio := "-"
	if res.Input > 0 {
		ratio = fmt.Sprintf("%.2f", float64(res.Stored)/float64(res.Input))
	}
	size := func(n int64) string { return humanize.IBytes(uint64(n)) }
	_, err := fmt.Fprintf(out, "%s\n%s in, %s stored (ratio %s; %s metadata, %s maps), %s sent; %s files, %s frames in %d blobs; %s\n", dst,
		size(res.Input), size(res.Stored), ratio, size(res.Meta), size(res.Maps), size(res.Sent),
		humanize.Comma(res.Files), humanize.Comma(int64(res.Frames)), res.Blobs, took.Round(time.Millisecond))
	return err
}
