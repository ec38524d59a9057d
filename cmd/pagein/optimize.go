package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/mkfs/hot"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/optimize"
	"github.com/pagein/pagein/oci/profiles"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/signature"
	"github.com/pagein/pagein/oci/view"
	"github.com/pagein/pagein/profile"
)

const optimizeDescription = `Makes an artifact that shows the same as the one that REF names, or that is attached to the image that REF names, with one more blob: what the profile says is touched, in that
order. Nodes fetch it at once when they mount the image, in one go. It is stored as DST or, if REF names an image in a registry, attached to it without a tag. All other data stays where it is, and is not sent again.

Nodes take what is attached to an image when they pull it. One that has the image goes on with what it has mounted until the image is removed there (ctr images rm --sync), with its containers, and
pulled again.

A profile of an earlier version of the image is of use too. What it names is found by path and, if it was moved, by the digests in the profile; how much that is, is printed. With --min-coverage=PERCENT
nothing is made if it is less. With --sign-key in a registry, what is laid out is the newest artifact that the same key has signed. Profiles are made by "pagein trace" and "pagein profile"; auto takes all that are attached to the image, merged.

` + profileNames

// optimizeCommand is "pagein optimize".
func optimizeCommand() *cli.Command {
	return &cli.Command{
		Name:        "optimize",
		Usage:       "lay an artifact out for a workload",
		ArgsUsage:   "REF [DST]",
		Description: optimizeDescription,
		Flags: []cli.Flag{
			profileFlag(),
			signKeyFlag(),
			&cli.StringFlag{Name: "level", Value: blob.LevelDefault.String(), Usage: "compress at `LEVEL` fast, default or best"},
			&cli.Float64Flag{Name: "min-coverage", Usage: "make nothing if less than `PERCENT` of the profile is found"},
			tempDirFlag(),
			platformFlag(),
			&cli.BoolFlag{Name: "quiet", Usage: "print nothing but errors"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() < 1 || c.NArg() > 2 {
				return misuse(c, "want REF and DST; there are %d operands", c.NArg())
			}
			if c.String("profile") == "" {
				return misuse(c, "--profile is missing: see pagein trace --help")
			}
			return look(c, func(l *looker) error { return (&optimizeRun{looker: l}).run(c.Context) })
		},
	}
}

// optimizeRun is one call of the command.
type optimizeRun struct {
	*looker
	ref, dst oci.Ref
	place    artifact.Place
	base     *artifact.Artifact // which is laid out anew
	attached bool               // to an image that ref names
}

// optimizeSummary is what --json prints.
type optimizeSummary struct {
	Source    string `json:"source"`
	Reference string `json:"reference"` // of the new artifact, by digest
	optimize.Result
	Seconds float64 `json:"seconds"`
}

func (r *optimizeRun) run(ctx context.Context) (err error) {
	began := time.Now()
	o := optimize.Options{TempDir: r.c.String("temp-dir")}
	if o.Level, err = blob.ParseLevel(r.c.String("level")); err != nil {
		return misuse(r.c, "%v", err)
	}
	if r.ref, err = r.parse(r.c.Args().Get(0)); err != nil {
		return err
	}
	key, err := readKey(r.c.Path(signKey))
	if err != nil {
		return err
	}
	if err := r.find(ctx, key); err != nil {
		return err
	}
	dst, err := r.target()
	if err != nil {
		return err
	}
	p, err := r.touched(ctx)
	if err != nil {
		return err
	}
	if o.Ready, err = signer(dst, key); err != nil {
		return err
	}
	v, err := r.keep(view.Open(ctx, r.place, r.base, r.options()))
	if err != nil {
		return err
	}
	if r.attached {
		if o.After, err = r.place.Newest(ctx, r.ref, *r.base.Subject, nil); err != nil {
			return err
		}
	}
	result, err := r.make(ctx, v, dst, p, o)
	if err != nil {
		return err
	}
	return r.print(result, time.Since(began))
}

// touched reads the profile.
func (r *optimizeRun) touched(ctx context.Context) (*profile.Profile, error) {
	name := r.c.String("profile")
	if name != autoProfile {
		return r.profile(ctx, name)
	}
	if r.base.Subject == nil {
		return nil, fmt.Errorf("%s was made from no image that profiles could be attached to", r.ref)
	}
	return profiles.Attached(ctx, r.place, *r.base.Subject, r.note)
}

// find loads the artifact, or the one that it was itself laid out from: there the data is where nobody has moved it to. With a key, it is one that the key has signed: what others
// attached to the image, or gave the tag, would become right by being signed.
func (r *optimizeRun) find(ctx context.Context, key *signature.PrivateKey) (err error) {
	if r.place, err = artifact.Open(r.client, r.ref); err != nil {
		return err
	}
	var accept artifact.Accept
	if key != nil && r.place.Repository != nil {
		accept = signedBy([]signature.PublicKey{key.Public()}, new(string))
	}
	if r.base, err = r.place.Find(ctx, r.ref, r.platform, accept); err != nil {
		if errors.Is(err, signature.ErrUnsigned) {
			err = fmt.Errorf("%w; --%s is for artifacts that have a signature by the same key: see pagein sign --help", err, signKey)
		}
		return err
	}
	named, err := r.place.Resolve(ctx, r.ref)
	if err != nil {
		return err
	}
	r.attached = named.Digest != r.base.Descriptor.Digest
	r.base, err = converted(ctx, r.place, r.ref, r.base)
	return err
}

// converted returns the artifact that a was laid out from or, if it was not, that one is gone or it is of another image, a. Its digests are those that other versions of the image share.
func converted(ctx context.Context, place artifact.Place, ref oci.Ref, a *artifact.Artifact) (*artifact.Artifact, error) {
	if a.Base == "" {
		return a, nil
	}
	ref.Tag, ref.Digest = "", a.Base
	base, err := place.Load(ctx, ref)
	if err != nil || !sameImage(a.Subject, base.Subject) { // whoever made a can have named anything
		return a, ctx.Err()
	}
	return base, nil
}

// sameImage reports whether two subjects are the same, or there is neither.
func sameImage(a, b *ocispec.Descriptor) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Digest == b.Digest
}

// target opens what the artifact is stored in.
func (r *optimizeRun) target() (dst artifact.Place, err error) {
	if r.c.NArg() == 1 {
		if !r.attached {
			return dst, misuse(r.c, "DST is missing; only for an image in a registry it can be left out")
		}
		r.dst = oci.Ref{Kind: oci.Registry, Host: r.ref.Host, Repository: r.ref.Repository}
		return r.place, nil
	}
	if r.dst, err = parseConvertTarget(r.c.Args().Get(1)); err != nil {
		return dst, misuse(r.c, "%v", err)
	}
	r.attached = false
	return openTarget(r.client, r.dst)
}

// make makes and stores the artifact, and gives it its tag.
func (r *optimizeRun) make(ctx context.Context, v *view.View, dst artifact.Place, p *profile.Profile, o optimize.Options) (result optimize.Result, err error) {
	defer func() {
		if err != nil && dst.Layout != nil {
			err = errors.Join(err, dst.Layout.Discard())
		}
	}()
	tag := r.dst.Reference()
	if r.attached {
		tag = ""
	} else if err := checkTag(ctx, dst, r.dst); err != nil { // before the work is done
		return result, err
	}
	progress, rate := newProgressLine(r.c.App.ErrWriter, r.c.Bool("quiet")), newMeter()
	defer progress.clear()
	o.Progress = func(done, total int64) { progress.show(func() string { return "pushing " + rate.text(done, total) }) }
	o.Covered = func(c hot.Coverage, _ int64) bool { return 100*c.Use() >= r.c.Float64("min-coverage") }
	if result, err = optimize.Run(ctx, v, r.place, dst.Target(), p, o); err != nil || tag == "" {
		return result, err
	}
	if err := dst.Target().Tag(ctx, result.Descriptor, tag); err != nil {
		return result, fmt.Errorf("tag %s as %q: %w", r.dst, tag, registry.Explain(err))
	}
	return result, nil
}

func (r *optimizeRun) print(result optimize.Result, took time.Duration) error {
	ref := r.dst
	ref.Digest = result.Descriptor.Digest
	switch {
	case r.c.Bool("json"):
		return printJSON(r.c, optimizeSummary{Source: r.ref.String(), Reference: ref.String(), Result: result, Seconds: took.Seconds()})
	case r.c.Bool("quiet"):
		return nil
	}
	w := r.c.App.Writer
	if _, err := fmt.Fprintln(w, ref); err != nil {
		return err
	}
	if err := printOptimized(w, result); err != nil || !r.attached {
		return err
	}
	_, err := fmt.Fprintf(w, "Nodes that have the image take this one when it is removed there, with its containers, and pulled again: ctr images rm --sync %s\n", r.ref)
	return err
}

// printOptimized says for people how an artifact was laid out.
func printOptimized(w io.Writer, result optimize.Result) error {
	if err := printCoverage(w, result.Coverage); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "hot data        %s, %s compressed\nmetadata image  %s compressed, %s before\nsent            %s\n",
		iBytes(result.Hot), iBytes(result.Compressed), iBytes(result.Meta), iBytes(result.MetaBefore), iBytes(result.Sent))
	return err
}
