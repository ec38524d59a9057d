package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/attach"
	"github.com/pagein/pagein/oci/image"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/remote"
)

const copyDescription = `Copies the artifact SRC, or the one that is attached to the image SRC, to DST (each oci:DIR[:TAG] or HOST/REPOSITORY[:TAG]). Data that is in
other storage stays there, and the copy has the same digest. With --attach the data moves: it is stored at the given places, as by pagein convert, and no more in DST; with
--keep-data it is in DST too, and alone it brings data from other storage to DST. Then the copy is another artifact, of the same image, which must be signed anew. SRC is left as it is.

With --image, DST becomes a copy of the image SRC, of all its platforms, with the artifacts that are attached to it or that it names, their signatures, and its profiles. Both must be in registries.`

// copyCommand is "pagein copy".
func copyCommand() *cli.Command {
	return &cli.Command{
		Name:        "copy",
		Usage:       "copy an artifact, or move its data to other storage",
		ArgsUsage:   "SRC DST",
		Description: copyDescription,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "attach", Usage: "store the data at `URL` (s3://BUCKET/PREFIX, file:///DIR, READ-URL=URL) instead of DST; may be repeated"},
			&cli.BoolFlag{Name: "keep-data", Usage: "store the data in DST, whatever other storage has it"},
			&cli.BoolFlag{Name: "image", Usage: "copy the image SRC with all that is attached to it"},
			platformFlag(),
			&cli.StringFlag{Name: "temp-dir", Usage: "keep what moves in `DIR` on its way, one layer at a time"},
			&cli.BoolFlag{Name: "quiet", Usage: "print nothing but errors"},
			&cli.BoolFlag{Name: "json", Usage: "print the summary as JSON"},
		},
		Action: func(c *cli.Context) error {
			r, err := newCopyRun(c)
			if err != nil {
				return misuse(c, "%v", err)
			}
			if c.Bool("image") {
				return r.runImage(c.Context)
			}
			return r.run(c.Context)
		},
	}
}

// copyRun is one call of the command.
type copyRun struct {
	c        *cli.Context
	src, dst oci.Ref
	platform *ocispec.Platform
	attached *attach.Attachment // or nil
	remote   *remote.Remote
	client   *registry.Client
}

func newCopyRun(c *cli.Context) (*copyRun, error) {
	if c.NArg() != 2 {
		return nil, fmt.Errorf("want SRC and DST; there are %d operands", c.NArg())
	}
	r := &copyRun{c: c}
	var err error
	if r.src, err = oci.ParseRef(c.Args().Get(0)); err != nil {
		return nil, err
	}
	if r.src.Kind != oci.Layout && r.src.Kind != oci.Registry {
		return nil, fmt.Errorf("SRC %s must be oci:DIR[:TAG] or HOST/REPOSITORY[:TAG]", r.src)
	}
	if r.dst, err = parseConvertTarget(c.Args().Get(1)); err != nil {
		return nil, err
	}
	if p := c.String("platform"); p != "" {
		if r.platform, err = image.ParsePlatform(p); err != nil {
			return nil, err
		}
	}
	if c.Bool("image") {
		if r.src.Kind != oci.Registry || r.dst.Kind != oci.Registry {
			return nil, errors.New("--image is for SRC and DST in registries")
		}
		if r.platform != nil || c.IsSet("attach") || c.IsSet("keep-data") {
			return nil, errors.New("--image copies all as it is: it goes with none of --platform, --attach and --keep-data")
		}
	}
	if places := c.StringSlice("attach"); len(places) > 0 {
		r.attached, err = attach.New(places)
	}
	return r, err
}

func (r *copyRun) run(ctx context.Context) (err error) {
	started := time.Now()
	if r.remote, r.client, err = openRemote(r.c); err != nil {
		return err
	}
	defer r.remote.Close()
	defer r.client.Close()
	progress, rate := newProgressLine(r.c.App.ErrWriter, r.c.Bool("quiet")), newMeter()
	pushed, err := r.copy(ctx, func(done, total int64) {
		progress.show(func() string { return "copying " + rate.text(done, total) })
	})
	progress.clear()
	if err != nil {
		return err
	}
	return r.print(pushed, time.Since(started))
}

// copy copies and tags.
func (r *copyRun) copy(ctx context.Context, progress func(done, total int64)) (pushed artifact.Pushed, err error) {
	from, a, err := artifact.Find(ctx, r.client, r.src, r.platform)
	if err != nil {
		return pushed, err
	}
	to, err := openTarget(r.client, r.dst)
	if err != nil {
		return pushed, err
	}
	defer func() {
		if err != nil && to.Layout != nil {
			err = errors.Join(err, to.Layout.Discard())
		}
	}()
	if err := checkTag(ctx, to, r.dst); err != nil {
		return pushed, err
	}
	o := artifact.CopyOptions{
		Keep: r.c.Bool("keep-data"), TempDir: r.c.String("temp-dir"), Progress: progress,
		Open: func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
			o, err := r.remote.Object(from, desc)
			if err != nil {
				return nil, err
			}
			return attach.Reader(ctx, o), nil
		},
	}
	if r.attached != nil {
		defer r.attached.Close()
		o.Attached = r.attached
	}
	if pushed, err = artifact.Copy(ctx, a, from, to.Target(), o); err != nil {
		return pushed, err
	}
	if err := copySignatures(ctx, from, to, a, pushed.Descriptor); err != nil {
		return pushed, err
	}
	if err := to.Target().Tag(ctx, pushed.Descriptor, r.dst.Reference()); err != nil {
		return pushed, fmt.Errorf("tag %s: %w", r.dst, registry.Explain(err))
	}
	return pushed, nil
}

// copySummary is what --json prints. The numbers are bytes.
type copySummary struct {
	Source    string  `json:"source"`
	Reference string  `json:"reference"` // of the copy, by digest
	Stored    int64   `json:"stored"`    // config, manifest and data that moved
	Sent      int64   `json:"sent"`      // of these, what DST did not have
	Copied    int64   `json:"copied"`    // layers that were copied
	Mounted   int64   `json:"mounted"`   // layers that the registry took from another of its repositories
	Attached  int64   `json:"attached"`  // sent to attached storage
	Seconds   float64 `json:"seconds"`
}

func (r *copyRun) print(p artifact.Pushed, took time.Duration) error {
	dst := r.dst
	dst.Tag, dst.Digest = r.dst.Reference(), p.Descriptor.Digest
	switch {
	case r.c.Bool("json"):
		return printJSON(r.c, copySummary{r.src.String(), dst.String(), p.Stored, p.Sent, p.Copied, p.Mounted, p.Attached, took.Seconds()})
	case r.c.Bool("quiet"):
		return nil
	}
	_, err := fmt.Fprintf(r.c.App.Writer, "%s\n%s copied, %s taken over by the registry, %s stored elsewhere; %s\n", dst,
		size(p.Copied+p.Sent), size(p.Mounted), size(p.Attached), took.Round(time.Millisecond))
	return err
}
