package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/internal/envvar"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/image"
	"github.com/pagein/pagein/snapshotter/imagestore"
)

const pullDescription = `Has containerd pull the image REF for the snapshotter of pageind, and tells the snapshotter which image it is: what an artifact stands for is not fetched before it is read. It does
what "ctr images pull" does from containerd 2.1 on, and what older ones cannot do. An image without an artifact is fetched and unpacked as ever, and it is said why. So it stays until it is removed (ctr images rm --sync) and pulled again.

With --layers the layers are fetched into containerd's content store as well, also those of an image that was pulled before, so that it can be pushed to another registry,
exported and converted, and works when the registry does not. The image stays mounted as it is.`

func pullCommand() *cli.Command {
	return &cli.Command{
		Name:        "pull",
		Usage:       "have containerd pull an image lazily, or fetch the layers of one",
		ArgsUsage:   "REF",
		Description: pullDescription,
		Flags: append(containerdFlags(""),
			&cli.StringFlag{Name: "namespace", Value: imagestore.DefaultNamespace, EnvVars: envvar.Usable("CONTAINERD_NAMESPACE"), Usage: "pull into containerd's namespace `NAME`; Kubernetes uses k8s.io"},
			&cli.BoolFlag{Name: "layers", Usage: "fetch all layers into containerd's content store, too"},
			platformFlag(),
			&cli.BoolFlag{Name: "quiet", Usage: "print nothing but errors"},
			jsonFlag(),
		),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misuse(c, "want REF; there are %d operands", c.NArg())
			}
			ref, err := oci.ParseRef(c.Args().First())
			if err != nil {
				return misuse(c, "%v", err)
			}
			if ref.Kind != oci.Registry {
				return misuse(c, "REF %s must be HOST/REPOSITORY[:TAG][@DIGEST]: containerd pulls from registries", ref)
			}
			return pull(c, ref)
		},
	}
}

// pull pulls an image, and fetches its layers if that is asked for.
func pull(c *cli.Context, ref oci.Ref) error {
	started, progress, rate := time.Now(), newProgressLine(c.App.ErrWriter, c.Bool("quiet")), newMeter()
	defer progress.clear()
	r, client, err := openRemote(c)
	if err != nil {
		return err
	}
	defer r.Close()
	defer client.Close()
	o := imagestore.Options{
		Namespace: c.String("namespace"), Registry: client,
		Progress: func(done int64) { progress.show(func() string { return rate.text(done, 0) }) },
	}
	if p := c.String("platform"); p != "" {
		if o.Platform, err = image.ParsePlatform(p); err != nil {
			return misuse(c, "%v", err)
		}
	}
	store, err := openStore(c, o)
	if err != nil {
		return err
	}
	pulled, err := pullFrom(c.Context, store, ref, c.Bool("layers"))
	if err = errors.Join(err, store.Close()); err != nil {
		return err
	}
	took := time.Since(started)
	progress.clear()
	return printPulled(c, pullSummary{pulled, took.Seconds(), whyUnpacked(c, pulled)}, took)
}

func pullFrom(ctx context.Context, store *imagestore.Store, ref oci.Ref, layers bool) (*imagestore.Pulled, error) {
	pulled, err := store.Pull(ctx, ref)
	if err != nil || !layers || pulled.Lazy() == 0 {
		return pulled, err
	}
	before := pulled.Fetched
	if pulled, err = store.Complete(ctx, pulled.Name); err == nil {
		pulled.Fetched += before
	}
	return pulled, err
}

// pullSummary is what --json prints.
type pullSummary struct {
	*imagestore.Pulled
	Seconds  float64           `json:"seconds"`
	Unpacked *control.Unpacked `json:"unpacked,omitempty"` // if pageind says that it is not lazy
}

// unpacked reports whether no layer is lazy, of an image that has any.
func (p pullSummary) unpacked() bool { return !p.Mounted && p.Lazy() == 0 && len(p.Layers) > 0 }

func printPulled(c *cli.Context, p pullSummary, took time.Duration) error {
	switch {
	case c.Bool("json"):
		return printJSON(c, p)
	case c.Bool("quiet"):
		return nil
	}
	_, err := fmt.Fprintf(c.App.Writer, "%s@%s\n%s, %d of them not fetched; %s fetched in %s\n",
		p.Name, p.Digest, count(int64(len(p.Layers)), "layer"), p.Lazy(), humanize.IBytes(uint64(p.Fetched)), took.Round(time.Millisecond))
	if err != nil || !p.unpacked() {
		return err
	}
	namespace := ""
	if n := c.String("namespace"); n != imagestore.DefaultNamespace {
		namespace = "--namespace " + n + " "
	}
	_, err = fmt.Fprintln(c.App.Writer, unpackedWords(p, took, "ctr "+namespace+"images rm --sync "+p.Name))
	return err
}

// unpackedWords say that an image is not lazy, why that is, and what to do then, of which one step is a command.
func unpackedWords(p pullSummary, took time.Duration, remove string) string {
	switch {
	case p.Unpacked == nil && p.Fetched == 0:
		return "It was unpacked earlier, as any other image: remove it (" + remove + ") and pull it again."
	case p.Unpacked == nil:
		return "It was unpacked as any other image: the log of pageind says why. Once that is cured, remove it (" + remove + ") and pull it again."
	}
	again := ""
	if time.Since(p.Unpacked.At) > took+time.Second { // this pull has found it unpacked
		again = " on " + p.Unpacked.At.Local().Format(time.DateTime)
	}
	return fmt.Sprintf("It was unpacked as any other image%s: %s\nIt stays so until it is removed: once that is cured, do so (%s) and pull it again.", again, p.Unpacked.Reason, remove)
}

// whyUnpacked asks pageind, which does not tell everybody, why an image is not lazy. Nil means that it is, or that nobody knows.
func whyUnpacked(c *cli.Context, p *imagestore.Pulled) *control.Unpacked {
	if p.Mounted || p.Lazy() > 0 {
		return nil
	}
	client, err := control.NewClient(c.String("address"))
	if err != nil {
		return nil
	}
	defer client.Close()
	status, err := client.Status(c.Context)
	if err != nil {
		return nil
	}
	at := slices.IndexFunc(status.Unpacked, func(u control.Unpacked) bool { return u.Image == p.Name })
	if at < 0 {
		return nil
	}
	return &status.Unpacked[at]
}
