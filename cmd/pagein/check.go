package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/erofs/check"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/view"
)

const checkDescription = `Verifies all of REF: the digests of manifest, config, metadata image, maps and source objects; every frame of every blob; every inode, name, attribute and
chunk of the file system, and its link counts. With --against, it also compares the file system with SRC, which is ` + compareRefs + `,
such as the image that the artifact was made from.

With --store, it verifies all that a node keeps in DIR (` + defaultRoot + ` by default) instead: metadata images, maps and records, and each frame that is called present, read from
the disk. A running pageind does that itself while images are mounted. --repair removes what is bad, to be fetched again.

` + lookRefs

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:        "check",
		Usage:       "verify an artifact completely",
		ArgsUsage:   "REF | --store [DIR]",
		Description: checkDescription,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "against", Usage: "compare with `SRC`, too"},
			ignoreFlag(),
			&cli.BoolFlag{Name: "store", Usage: "verify what this node keeps"},
			&cli.BoolFlag{Name: "repair", Usage: "with --store: remove what is bad, and fetch again what is in use"},
			tempDirFlag(),
			platformFlag(),
			&cli.BoolFlag{Name: "quiet", Usage: "print nothing but problems and differences"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.Bool("store") {
				return checkStoreCommand(c)
			}
			if c.IsSet("repair") {
				return misuse(c, "--repair is for --store")
			}
			if c.NArg() != 1 {
				return misuse(c, "want REF; got %q", c.Args().Slice())
			}
			ignore, err := ignored(c)
			if err != nil {
				return misuse(c, "%v", err)
			}
			if c.IsSet("ignore") && !c.IsSet("against") {
				return misuse(c, "--ignore is for --against")
			}
			return look(c, func(l *looker) error { return l.check(c.Context, c.Args().First(), ignore) })
		},
	}
}

// check verifies what s names and reports.
func (l *looker) check(ctx context.Context, s string, ignore map[string]bool) error {
	ref, err := l.parse(s)
	if err != nil {
		return err
	}
	var src oci.Ref
	if against := l.c.String("against"); against != "" {
		if src, err = l.parse(against); err != nil {
			return err
		}
	}
	r := newCheckReport(l.c, ref)
	p, err := l.verify(ctx, ref, r)
	if err != nil {
		return err
	}
	if p != nil {
		if err := r.structure(ctx, p.tree); err != nil {
			return err
		}
		if src.Kind != 0 {
			if err := l.against(ctx, p, src, ignore, r); err != nil {
				return err
			}
		}
	}
	return r.end()
}

// verify checks everything but the file system, and returns it, or nil if it cannot be opened.
func (l *looker) verify(ctx context.Context, ref oci.Ref, r *checkReport) (*peek, error) {
	switch ref.Kind {
	case oci.EROFS:
		return l.verifyImage(ref, r)
	case oci.Dir, oci.Tar:
		return nil, misuse(l.c, "%s is no artifact, and can only be what an artifact is checked --against", ref)
	}
	v, err := l.view(ctx, ref)
	if err != nil {
		if errors.Is(err, artifact.ErrNotArtifact) || !l.resolves(ctx, ref) {
			return nil, err
		}
		r.problem(checkProblem{Part: "artifact", Where: ref.String(), What: err.Error()})
		return nil, nil
	}
	if err := v.Artifact.VerifyConfig(ctx); err != nil {
		r.problem(checkProblem{Part: "artifact", Where: ref.String(), What: err.Error()})
	}
	defer r.progress.clear()
	verified, verifyErr := v.Verify(view.VerifyOptions{
		Problem:  func(p view.Problem) { r.artifactProblem(v, p) },
		Progress: r.showProgress,
	})
	if verifyErr != nil {
		return nil, verifyErr
	}
	r.setArtifact(v, verified)
	tree, err := v.Tree()
	r.affected(tree)
	if err != nil {
		return nil, nil // a problem that was reported
	}
	return &peek{ref: ref, tree: tree, view: v}, nil
}

// verifyImage opens an EROFS image. One that can be read but not opened is a problem.
func (l *looker) verifyImage(ref oci.Ref, r *checkReport) (*peek, error) {
	tree, err := l.image(ref.Files())
	if unread := new(fs.PathError); err != nil && !errors.As(err, &unread) {
		r.problem(checkProblem{Part: "image", Where: ref.String(), What: err.Error()})
		return nil, nil
	}
	return &peek{ref: ref, tree: tree}, err
}

// resolves reports whether there is a manifest with the name, so that an artifact that cannot be loaded is a damaged one, and neither a mistake nor an outage.
func (l *looker) resolves(ctx context.Context, ref oci.Ref) bool {
	place, err := artifact.Open(l.client, ref)
	if err == nil {
		_, err = place.Resolve(ctx, ref)
	}
	return err == nil
}

// structure checks the file system.
func (r *checkReport) structure(ctx context.Context, tree *erofs.FS) error {
	stats, err := check.Image(ctx, tree, r.treeProblem)
	if ctx.Err() != nil {
		return fmt.Errorf("check %s: %w", r.Reference, context.Cause(ctx))
	}
	if err != nil {
		r.treeProblem(".", err)
	}
	r.setTree(stats)
	if r.Tree.Digests, err = check.Digests(ctx, tree, r.treeProblem); err != nil {
		return fmt.Errorf("check %s: %w", r.Reference, err)
	}
	return nil
}

func (r *checkReport) treeProblem(path string, err error) {
	r.problem(checkProblem{Part: "tree", Where: quoteName(path), What: err.Error()})
}

// against compares the file system with its source.
func (l *looker) against(ctx context.Context, p *peek, src oci.Ref, ignore map[string]bool, r *checkReport) error {
	source, err := l.any(ctx, src)
	if err != nil {
		return err
	}
	d := newDifferences(l.c)
	if d.list != nil { // in JSON they are a part of the report
		d.list, d.keep = nil, &r.DiffList
	}
	err = d.compare(ctx, source, p, ignore)
	r.Against, r.Differences, r.unread = src.String(), d.found, d.unread
	return err
}
