package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/mkfs"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/convert"
	"github.com/pagein/pagein/oci/view"
)

// compareRefs says in the help of the commands that compare what they compare.
const compareRefs = `an artifact (oci:DIR[:TAG] or a registry reference), an image of either kind, a directory (dir:PATH), a tar (tar:PATH, tar:- for standard input)
or an EROFS image (erofs:FILE[,DEVICE...])`

func tempDirFlag() cli.Flag {
	return &cli.StringFlag{Name: "temp-dir", Usage: "keep what is fetched, and unpacked images, in `DIR` while they are compared; they need room there"}
}

// any opens whatever s names. An image is that image, whether or not an artifact is attached to it. What is no file system yet is made one, in a
// temporary file.
func (l *looker) any(ctx context.Context, ref oci.Ref) (*peek, error) {
	switch ref.Kind {
	case oci.EROFS:
		tree, err := l.image(ref.Files())
		return &peek{ref: ref, tree: tree}, err
	case oci.Dir:
		return l.unpacked(ctx, ref, func(ctx context.Context, t *mkfs.Tree, sink mkfs.Sink) error { return t.AddDir(ctx, ref.Path, sink) })
	case oci.Tar:
		return l.unpacked(ctx, ref, func(ctx context.Context, t *mkfs.Tree, sink mkfs.Sink) error { return l.addTar(ctx, ref.Path, t, sink) })
	}
	place, err := artifact.Open(l.client, ref)
	if err != nil {
		return nil, err
	}
	a, err := place.Load(ctx, ref)
	if errors.Is(err, artifact.ErrNotArtifact) {
		return l.ordinary(ctx, place, ref)
	}
	if err != nil {
		return nil, err
	}
	v, err := l.keep(view.Open(ctx, place, a, l.options()))
	if err != nil {
		return nil, err
	}
	tree, err := v.Tree()
	return &peek{ref: ref, tree: tree, view: v}, err
}

// ordinary unpacks an image that is no artifact.
func (l *looker) ordinary(ctx context.Context, place artifact.Place, ref oci.Ref) (*peek, error) {
	desc, err := place.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	return l.unpacked(ctx, ref, func(ctx context.Context, t *mkfs.Tree, sink mkfs.Sink) error {
		return convert.Flatten(ctx, place.Target(), desc, l.platform, t, sink)
	})
}

func (l *looker) addTar(ctx context.Context, path string, t *mkfs.Tree, sink mkfs.Sink) error {
	in := l.c.App.Reader
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	return t.AddTar(ctx, in, sink)
}

// unpacked makes a source a plain image in a temporary file without a name.
func (l *looker) unpacked(ctx context.Context, ref oci.Ref, source mkfs.Source) (*peek, error) {
	f, stats, err := mkfs.TempImage(ctx, source, mkfs.ImageOptions{TempDir: l.c.String("temp-dir"), Note: l.note})
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", ref, err)
	}
	l.closers = append(l.closers, f)
	tree, err := erofs.Open(f, stats.Image.Size)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", ref, err)
	}
	return &peek{ref: ref, tree: tree}, nil
}

// note prints what was left out or looks odd.
func (l *looker) note(message string) {
	fmt.Fprintf(l.c.App.ErrWriter, "pagein %s: note: %s\n", l.c.Command.Name, message)
}
