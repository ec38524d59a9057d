package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/atomicfile"
	"github.com/pagein/pagein/internal/unpack"
)

const exportDescription = `Writes all files of REF into DIR, which must be new or empty (dir:DIR if its name looks like something else), or as a tar (tar:PATH, tar:- for standard
output). Contents, owners, permissions, times, extended attributes, ACLs, device nodes and hard links are kept; blocks of zeros become holes. A tar is in the PAX format, and the
same REF gives the same bytes. Without root, owners, devices and some attributes cannot be set in a directory: that is noted, and a tar has them all.

` + lookRefs

func exportCommand() *cli.Command {
	return &cli.Command{
		Name:        "export",
		Usage:       "unpack an artifact into a directory or a tar",
		ArgsUsage:   "REF DIR|tar:PATH",
		Description: exportDescription,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "temp-dir", Usage: "keep metadata that is fetched in `DIR` meanwhile"},
			platformFlag(),
			&cli.BoolFlag{Name: "quiet", Usage: "print nothing but errors and notes"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return misuse(c, "want REF and DIR or tar:PATH; got %q", c.Args().Slice())
			}
			if err := checkExportTarget(c.Args().Get(1)); err != nil {
				return misuse(c, "%v", err)
			}
			return look(c, func(l *looker) error {
				p, err := l.open(c.Context, c.Args().First())
				if err != nil {
					return err
				}
				return l.export(c.Context, p, c.Args().Get(1))
			})
		},
	}
}

// checkExportTarget refuses what is probably meant to be something else than the name of a directory.
func checkExportTarget(target string) error {
	for _, kind := range []string{"oci", "erofs"} {
		if strings.HasPrefix(target, kind+":") {
			return fmt.Errorf("%q is neither a directory nor tar:PATH (write dir:%s if it is the directory's name)", target, target)
		}
	}
	if info, err := os.Stat(target); err == nil && !info.IsDir() {
		return fmt.Errorf("%q is a file, not a directory: write tar:%s to replace it by a tar", target, target)
	}
	return nil
}

// exportSummary is what --json prints.
type exportSummary struct {
	Names   int64   `json:"names"`
	Bytes   int64   `json:"bytes"` // of file data, without holes
	Lost    int64   `json:"lost"`  // owners, attributes and files that could not be kept
	Seconds float64 `json:"seconds"`
}

func (l *looker) export(ctx context.Context, p *peek, target string) error {
	progress := newProgressLine(l.c.App.ErrWriter, l.c.Bool("quiet"))
	options := unpack.Options{
		Note: func(message string) {
			progress.clear()
			l.note(message)
		},
		Progress: func(s unpack.Stats) {
			progress.show(func() string { return fmt.Sprintf("%s files, %s", humanize.Comma(s.Names), size(s.Bytes)) })
		},
	}
	if p.view != nil {
		options.Zero = p.view.Zero
	}
	started := time.Now()
	stats, err := l.unpack(ctx, p.tree, target, options)
	progress.clear()
	if err != nil {
		return err
	}
	s := exportSummary{Names: stats.Names, Bytes: stats.Bytes, Lost: stats.Lost, Seconds: time.Since(started).Seconds()}
	if err := l.printExport(target, s); err != nil {
		return err
	}
	if stats.Lost > 0 && os.Geteuid() == 0 {
		return fmt.Errorf("export to %s: %s could not be kept", target, count(stats.Lost, "thing"))
	}
	return nil
}

// unpack writes the tree to where target says.
func (l *looker) unpack(ctx context.Context, tree *erofs.FS, target string, o unpack.Options) (stats unpack.Stats, err error) {
	path, isTar := strings.CutPrefix(target, "tar:")
	switch {
	case !isTar:
		return unpack.Dir(ctx, tree, strings.TrimPrefix(target, "dir:"), o)
	case path == stdio && isTerminal(l.c.App.Writer):
		return stats, misuse(l.c, "a tar is not written to a terminal: redirect standard output")
	case path == stdio:
		return unpack.Tar(ctx, tree, l.c.App.Writer, o)
	case path == "":
		return stats, misuse(l.c, "no path after %q", target)
	}
	if info, statErr := os.Stat(path); statErr == nil && !info.Mode().IsRegular() { // a pipe, or a device
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return stats, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		return unpack.Tar(ctx, tree, f, o)
	}
	f, err := atomicfile.Create(path, 0o666)
	if err != nil {
		return stats, err
	}
	defer f.Discard()
	if stats, err = unpack.Tar(ctx, tree, io.Writer(f), o); err != nil {
		return stats, err
	}
	return stats, f.Commit()
}

// printExport prints the summary, not into a tar.
func (l *looker) printExport(target string, s exportSummary) error {
	out := l.c.App.Writer
	if target == "tar:-" {
		out = l.c.App.ErrWriter
	}
	switch {
	case l.c.Bool("json"):
		return writeJSON(out, s)
	case l.c.Bool("quiet"):
		return nil
	}
	_, err := fmt.Fprintf(out, "%s: %s names, %s in %s\n", target, humanize.Comma(s.Names), size(s.Bytes),
		time.Duration(s.Seconds*float64(time.Second)).Round(time.Millisecond))
	return err
}
