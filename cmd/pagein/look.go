package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/image"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/remote"
	"github.com/pagein/pagein/oci/view"
)

// lookRefs says in the help of the commands that look inside what they look into.
const lookRefs = `REF is an artifact (oci:DIR[:TAG] or a registry reference), an image in a registry that an artifact is attached to, or an EROFS image
(erofs:FILE[,DEVICE...]). Nothing is mounted and no daemon is needed. What is read is verified first.`

func platformFlag() cli.Flag {
	return &cli.StringFlag{Name: "platform", Usage: "take the image for `OS/ARCH[/VARIANT]` of an index (default: Linux on this machine's architecture)"}
}

// looker opens what the commands that look inside are asked to look into.
type looker struct {
	c        *cli.Context
	remote   *remote.Remote
	client   *registry.Client
	platform *ocispec.Platform
	closers  []io.Closer
}

// look opens references with the options of the command line, calls f, and lets go of everything.
func look(c *cli.Context, f func(*looker) error) (err error) {
	l := &looker{c: c}
	if p := c.String("platform"); p != "" {
		if l.platform, err = image.ParsePlatform(p); err != nil {
			return misuse(c, "%v", err)
		}
	}
	if l.remote, l.client, err = openRemote(c); err != nil {
		return err
	}
	defer l.remote.Close()
	defer l.client.Close()
	defer func() {
		for _, closer := range l.closers {
			err = errors.Join(err, closer.Close())
		}
	}()
	return f(l)
}

// peek is something that was opened to be looked into.
type peek struct {
	ref  oci.Ref
	tree *erofs.FS
	view *view.View // of an artifact, else nil
}

// parse reads a reference that a user wrote.
func (l *looker) parse(s string) (oci.Ref, error) {
	ref, err := oci.ParseRef(s)
	if err != nil {
		return ref, misuse(l.c, "%v", err)
	}
	return ref, nil
}

// open opens an artifact or an EROFS image.
func (l *looker) open(ctx context.Context, s string) (*peek, error) {
	ref, err := l.parse(s)
	if err != nil {
		return nil, err
	}
	switch ref.Kind {
	case oci.EROFS:
		tree, err := l.image(ref.Files())
		return &peek{ref: ref, tree: tree}, err
	case oci.Dir, oci.Tar:
		return nil, misuse(l.c, "%s is no artifact: convert it first (pagein convert), or make an image of it (pagein mkfs)", ref)
	}
	return l.artifact(ctx, ref)
}

// artifact opens an artifact.
func (l *looker) artifact(ctx context.Context, ref oci.Ref) (*peek, error) {
	v, err := l.view(ctx, ref)
	if err != nil {
		return nil, err
	}
	tree, err := v.Tree()
	return &peek{ref: ref, tree: tree, view: v}, err
}

// view loads an artifact, and fetches nothing else of it.
func (l *looker) view(ctx context.Context, ref oci.Ref) (*view.View, error) {
	place, a, err := artifact.Find(ctx, l.client, ref, l.platform)
	if err != nil {
		return nil, err
	}
	return l.keep(view.Open(ctx, place, a, l.options()))
}

func (l *looker) options() view.Options {
	return view.Options{TempDir: l.c.String("temp-dir"), Remote: l.remote}
}

// keep has a view closed in the end.
func (l *looker) keep(v *view.View, err error) (*view.View, error) {
	if err == nil {
		l.closers = append(l.closers, v)
	}
	return v, err
}

// image opens an EROFS image and its devices.
func (l *looker) image(paths []string) (*erofs.FS, error) {
	var files []io.ReaderAt
	size := int64(0)
	for i, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		l.closers = append(l.closers, f)
		files = append(files, f)
		if i > 0 {
			continue
		}
		if size, err = f.Seek(0, io.SeekEnd); err != nil { // tells the length of block devices too
			return nil, fmt.Errorf("find the length of %s: %w", path, err)
		}
	}
	tree, err := erofs.Open(files[0], size, files[1:]...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", paths[0], err)
	}
	return tree, nil
}
