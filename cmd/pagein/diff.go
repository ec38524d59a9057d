package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/internal/treediff"
	"github.com/pagein/pagein/oci"
)

const diffDescription = `Compares two file systems: names, types, permissions, owners, sizes, modification times, device numbers, link targets, hard links, extended
attributes, contents. A and B are each ` + compareRefs + `.
Blobs that both have are not read.

Lines begin with + for what only B has, - for what only A has, and ! for what differs, with the attributes that do. Like diff(1), it exits with 0 if there
is no difference, 1 if there are some, and 2 if something went wrong.`

// Exit statuses of diff(1).
const (
	exitDifferent = 1
	exitTrouble   = 2
)

// silently ends the program with a status and no message: what there is to say was said.
func silently(status int) error { return cli.Exit("", status) }

func diffCommand() *cli.Command {
	return &cli.Command{
		Name:        "diff",
		Usage:       "compare two artifacts, images, directories or tars",
		ArgsUsage:   "A B",
		Description: diffDescription,
		Flags:       []cli.Flag{ignoreFlag(), tempDirFlag(), platformFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return misuse(c, "want A and B; got %q", c.Args().Slice())
			}
			ignore, err := ignored(c)
			if err != nil {
				return misuse(c, "%v", err)
			}
			return troubled(look(c, func(l *looker) error { return l.diff(c.Context, c.Args().Get(0), c.Args().Get(1), ignore) }))
		},
	}
}

// troubled gives errors the exit status that diff(1) has for them.
func troubled(err error) error {
	if coded := cli.ExitCoder(nil); err == nil || errors.As(err, &coded) {
		return err
	}
	return cli.Exit(err, exitTrouble)
}

func (l *looker) diff(ctx context.Context, nameA, nameB string, ignore map[string]bool) error {
	refA, err := l.parse(nameA)
	if err != nil {
		return err
	}
	refB, err := l.parse(nameB)
	if err != nil {
		return err
	}
	if stdin := (oci.Ref{Kind: oci.Tar, Path: stdio}); refA == stdin && refB == stdin {
		return misuse(l.c, "A and B are both tar:-, and standard input can be read only once")
	}
	a, err := l.any(ctx, refA)
	if err != nil {
		return err
	}
	b, err := l.any(ctx, refB)
	if err != nil {
		return err
	}
	d := newDifferences(l.c)
	if err := d.compare(ctx, a, b, ignore); err != nil {
		return err
	}
	switch {
	case d.unread > 0:
		return silently(exitTrouble)
	case d.found > 0:
		return silently(exitDifferent)
	}
	return nil
}

// sameBlob says which devices of two artifacts are the same blob: those with the same ID, which is a digest that was verified. Devices that an artifact does not
// have, as a hostile image may name, are the same as none.
func sameBlob(a, b *peek) func(x, y uint16) bool {
	if a.view == nil || b.view == nil {
		return nil
	}
	blobsA, blobsB := a.view.Artifact.Blobs, b.view.Artifact.Blobs
	return func(x, y uint16) bool {
		return x > 0 && int(x) <= len(blobsA) && y > 0 && int(y) <= len(blobsB) && blobsA[x-1].ID == blobsB[y-1].ID
	}
}

// compare finds all differences and prints them.
func (d *differences) compare(ctx context.Context, a, b *peek, ignore map[string]bool) error {
	err := treediff.Compare(ctx, a.tree, b.tree, treediff.Options{Ignore: ignore, SameBlob: sameBlob(a, b)}, d.add)
	return errors.Join(err, d.list.end())
}
