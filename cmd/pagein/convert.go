package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/mkfs"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/attach"
	"github.com/pagein/pagein/oci/image"
)

const convertDescription = `Turns SRC, an image (oci:DIR[:TAG] or HOST/REPOSITORY[:TAG]), a directory (dir:PATH) or a tar (tar:PATH, tar:- for standard
input), into an artifact that can be mounted lazily, and stores it as DST (oci:DIR[:TAG] or HOST/REPOSITORY[:TAG]). Without DST the artifact
is pushed to the repository of SRC without a tag, as a referrer of the image, which stays as it is. Of an index, --platform=all converts all images for Linux, and
--platform=linux/amd64,linux/arm64 those two. With --tag-suffix=-pagein, the image gets a second tag, TAG-pagein: the same config and layers, which run anywhere, with an annotation that names the artifact. Layers are verified against the image's digests, and nothing is
pushed before all are, with --sign-key nothing signed. The same image or tar gives the same artifact on every machine; so does a directory, if the file systems report the
holes of sparse files alike. A tag that names anything but an artifact stays where it is.

With --profile, the artifact is then laid out for a workload, as "pagein optimize" does it.

With --dict, data that an earlier artifact holds is not stored again: the new artifact lists the blobs that have it. They are brought to DST if they
are not there: a registry takes them from another of its repositories, from elsewhere they are copied. The dictionary may be deleted afterwards.

With --attach, DST gets the manifest, the metadata image and the maps, and the data goes to other storage: s3://BUCKET[/PREFIX][?endpoint=URL&region=REGION&style=path|host],
with the keys of the environment, ~/.aws/credentials or the machine's role, or file:///DIRECTORY, which nodes must have at the same place. READ-URL=URL stores at URL what nodes
read at READ-URL, such as https://cdn.example.com/images=s3://images. Of several places, nodes prefer the first that their configuration allows.`

// convertCommand is "pagein convert".
func convertCommand() *cli.Command {
	return &cli.Command{
		Name:        "convert",
		Usage:       "make an image, a directory or a tar lazily mountable",
		ArgsUsage:   "SRC [DST]",
		Description: convertDescription,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "attach", Usage: "store the data at `URL` (s3://BUCKET/PREFIX, file:///DIR, READ-URL=URL) instead of DST; may be repeated"},
			&cli.BoolFlag{Name: "keep-data", Usage: "with --attach, store the data in DST too"},
			&cli.StringSliceFlag{Name: "dict", Usage: "refer to data that the artifact `REF` holds instead of storing it again; may be repeated"},
			&cli.StringFlag{Name: "level", Value: blob.LevelDefault.String(), Usage: "compress at `LEVEL` fast, default or best"},
			&cli.StringFlag{Name: "order", Value: mkfs.OrderDir.String(), Usage: "`ORDER` of file data: dir, directory by directory, or tar, as the source has it"},
			profileFlag(),
			&cli.StringFlag{Name: "platform", Usage: "take the image for `OS/ARCH[/VARIANT]` of an index (default: Linux on this machine's architecture); without DST also several, separated by commas, or all"},
			signKeyFlag(),
			&cli.StringFlag{Name: "tag-suffix", Usage: "without DST, push a copy of the image that names its artifact, tagged as SRC and `SUFFIX`, such as -pagein"},
			&cli.StringFlag{Name: "temp-dir", Usage: "keep blobs in `DIR` until they are pushed; it needs room for the compressed image, and for its small files as they are"},
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

// newConvertRun checks the arguments.
func newConvertRun(c *cli.Context) (*convertRun, error) {
	if c.NArg() < 1 || c.NArg() > 2 {
		return nil, fmt.Errorf("want SRC and DST; there are %d operands", c.NArg())
	}
	r := &convertRun{c: c}
	var err error
	if r.src, err = oci.ParseRef(c.Args().Get(0)); err != nil {
		return nil, err
	}
	switch r.src.Kind {
	case oci.Layout, oci.Registry, oci.Dir, oci.Tar:
	default:
		return nil, fmt.Errorf("SRC %s is neither an image, a directory nor a tar", r.src)
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
	if err := r.parseOptions(); err != nil {
		return nil, err
	}
	if r.c.Path(signKey) != "" && r.dst.Kind != oci.Registry {
		return nil, fmt.Errorf("--%s is for artifacts in registries: sign what is in a directory when it is in one", signKey)
	}
	return r, r.parseAttaching()
}

// attaches reports whether the artifact is attached to the image that it is made from.
func (r *convertRun) attaches() bool { return r.tag == "" }

// parseAttaching reads what is only for artifacts that are attached to their image.
func (r *convertRun) parseAttaching() error {
	if r.suffix = r.c.String("tag-suffix"); r.suffix != "" {
		copied := r.src
		copied.Tag += r.suffix
		if _, err := oci.ParseRef(copied.String()); err != nil || !r.attaches() || r.src.Tag == "" || r.src.Digest != "" {
			return fmt.Errorf("--tag-suffix=%s needs SRC with a tag that it makes another tag of, and no DST", r.suffix)
		}
	}
	if !r.attaches() && (r.all || len(r.platforms) > 1) {
		return errors.New("DST is for one platform: leave it out, or choose one with --platform")
	}
	return nil
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

// parseOptions reads the options that shape the conversion.
func (r *convertRun) parseOptions() (err error) {
	switch p := r.c.String("platform"); p {
	case "":
	case "all":
		r.all = true
	default:
		for s := range strings.SplitSeq(p, ",") {
			platform, err := image.ParsePlatform(s)
			if err != nil {
				return err
			}
			r.platforms = append(r.platforms, platform)
		}
	}
	if r.options.Blob.Level, err = blob.ParseLevel(r.c.String("level")); err != nil {
		return err
	}
	if r.options.Order, err = mkfs.ParseOrder(r.c.String("order")); err != nil {
		return err
	}
	r.options.TempDir = r.c.String("temp-dir")
	if err := r.parseAttach(); err != nil {
		return err
	}
	for _, s := range r.c.StringSlice("dict") {
		ref, err := oci.ParseRef(s)
		if err != nil {
			return err
		}
		if ref.Kind != oci.Layout && ref.Kind != oci.Registry {
			return fmt.Errorf("dictionary %s must be an artifact: oci:DIR[:TAG] or HOST/REPOSITORY[:TAG]", ref)
		}
		r.dicts = append(r.dicts, ref)
	}
	return nil
}

// parseAttach reads where the data goes.
func (r *convertRun) parseAttach() (err error) {
	places := r.c.StringSlice("attach")
	r.options.Keep = r.c.Bool("keep-data")
	switch {
	case len(places) > 0:
		if r.attached, err = attach.New(places); err == nil {
			r.options.Attached = r.attached
		}
	case r.options.Keep:
		err = errors.New("--keep-data is for use with --attach")
	}
	return err
}
