package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

const catDescription = `Writes files of REF to standard output, one after the other. Symbolic links are followed inside the image.

` + lookRefs

func catCommand() *cli.Command {
	return &cli.Command{
		Name:        "cat",
		Usage:       "write files of an artifact to standard output",
		ArgsUsage:   "REF PATH...",
		Description: catDescription,
		Flags:       []cli.Flag{platformFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() < 2 {
				return misuse(c, "want REF and paths in it")
			}
			return look(c, func(l *looker) error {
				p, err := l.open(c.Context, c.Args().First())
				if err != nil {
					return err
				}
				failed := 0
				for _, path := range c.Args().Tail() {
					if err := writeFile(c.Context, c.App.Writer, p.tree, path); errors.As(err, new(outputError)) {
						return err
					} else if err != nil {
						fmt.Fprintf(c.App.ErrWriter, "pagein cat: %s: %v\n", quoteName(path), err)
						failed++
					}
				}
				if failed > 0 {
					return cli.Exit(fmt.Sprintf("cat: %d of %d files could not be written", failed, c.NArg()-1), exitFailure)
				}
				return nil
			})
		},
	}
}

// outputError is a failure to write, after which reading on is useless.
type outputError struct{ err error }

func (e outputError) Error() string { return fmt.Sprintf("write output: %v", e.err) }
func (e outputError) Unwrap() error { return e.err }

// writeFile writes the content of one file, in pieces.
func writeFile(ctx context.Context, w io.Writer, tree *erofs.FS, path string) error {
	h, err := tree.Find(path, true)
	if err != nil {
		if cause := errors.Unwrap(err); cause != nil {
			return cause // the rest names the path again
		}
		return err
	}
	st := h.Stat()
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return unix.EISDIR
	default:
		return errors.New("it is no regular file")
	}
	const piece = 1 << 20
	buf := make([]byte, min(piece, st.Size))
	for off := int64(0); off < st.Size; {
		if ctx.Err() != nil {
			return outputError{context.Cause(ctx)}
		}
		n, err := h.ReadAt(buf[:min(piece, st.Size-off)], off)
		if _, err := w.Write(buf[:n]); err != nil {
			return outputError{err}
		}
		off += int64(n)
		if err != nil && (n == 0 || !errors.Is(err, io.EOF)) {
			return err
		}
	}
	return nil
}
