package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/mkfs"
)

const mkfsDescription = `Writes an uncompressed EROFS image to FILE. SOURCE is a directory (PATH or dir:PATH) or a tar archive (tar:PATH, or tar:- for
standard input; gzip and zstd are recognized). Without -T, -U and --all-root, everything is taken from the source. The same source gives the
same bytes: the UUID is derived from names, attributes, times and sizes in the tree, not from contents, unless -U gives one. FILE appears
when it is complete.

Options are those of mkfs.erofs and may be written like there, as -T0 or -T 0, and may follow the operands.`

// mkfsCommand is "pagein mkfs".
func mkfsCommand() *cli.Command {
	flags := []cli.Flag{
		&cli.Int64Flag{Name: "T", Usage: "give all files the modification time `SECONDS` since 1970"},
		&cli.StringFlag{Name: "U", Usage: "use `UUID` for the file system"},
		&cli.StringFlag{Name: "L", Usage: "use `LABEL`, up to 15 bytes, as volume name"},
		&cli.BoolFlag{Name: "all-root", Usage: "make all files owned by root"},
		&cli.StringFlag{Name: "blobdev", Usage: "put file data in a separate device `PATH`, tagged with its SHA-256"},
		&cli.StringFlag{Name: "tar", Usage: "SOURCE is a tar archive, standard input if it is missing; `MODE` must be f (full)"},
		&cli.BoolFlag{Name: "quiet", Usage: "print nothing but errors"},
		&cli.BoolFlag{Name: "json", Usage: "print the summary as JSON"},
	}
	return &cli.Command{
		Name:        "mkfs",
		Usage:       "write a directory or a tar archive as a plain EROFS image",
		ArgsUsage:   "FILE SOURCE",
		Description: mkfsDescription,
		Flags:       flags,
		// The flag package knows neither -T0 nor options behind operands.
		SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			c, err := parseLikeGetopt(c, flags)
			if errors.Is(err, flag.ErrHelp) {
				return cli.ShowSubcommandHelp(c)
			}
			if err != nil {
				return misuse(c, "%v", err)
			}
			return runMkfs(c)
		},
	}
}

func runMkfs(c *cli.Context) error {
	source, err := mkfsSource(c)
	if err != nil {
		return misuse(c, "%v", err)
	}
	o := mkfs.ImageOptions{Label: c.String("L"), BlobDev: c.String("blobdev")}
	if c.Bool("all-root") {
		root := uint32(0)
		o.UID, o.GID = &root, &root
	}
	if c.IsSet("T") {
		t := c.Int64("T")
		o.Mtime = &t
	}
	if c.IsSet("U") {
		uuid, err := parseUUID(c.String("U"))
		if err != nil {
			return misuse(c, "%v", err)
		}
		o.UUID = &uuid
	}
	if len(o.Label) > 15 {
		return misuse(c, "label %q is longer than 15 bytes", o.Label)
	}
	// A tree of 100,000 files is some 30 MiB of long-lived memory. Collecting earlier than Go's default costs little and halves the rest.
	defer debug.SetGCPercent(debug.SetGCPercent(50))

	quiet := c.Bool("quiet")
	progress := newProgressLine(c.App.ErrWriter, quiet)
	o.Progress = progress.update
	o.Note = func(message string) {
		if !quiet {
			progress.clear()
			fmt.Fprintf(c.App.ErrWriter, "pagein mkfs: note: %s\n", message)
		}
	}
	started := time.Now()
	stats, err := mkfs.WriteImage(c.Context, c.Args().First(), source, o)
	progress.clear()
	if err != nil {
		return err
	}
	return printMkfs(c, stats, time.Since(started))
}

// mkfsSource interprets the operands.
func mkfsSource(c *cli.Context) (mkfs.Source, error) {
	tarMode := c.IsSet("tar")
	if mode := c.String("tar"); tarMode && mode != "f" {
		return nil, fmt.Errorf("--tar=%s: only f, a full image, is supported", mode)
	}
	switch n := c.NArg(); {
	case n == 1 && tarMode:
		return tarSource("-"), nil
	case n != 2:
		return nil, fmt.Errorf("%d operands: want FILE and SOURCE", n)
	}
	source := c.Args().Get(1)
	if c.Args().First() == "" || source == "" {
		return nil, errors.New("FILE and SOURCE must not be empty")
	}
	if path, ok := strings.CutPrefix(source, "tar:"); ok {
		return tarSource(path), nil
	}
	if tarMode {
		return tarSource(source), nil
	}
	path := strings.TrimPrefix(source, "dir:")
	return func(ctx context.Context, t *mkfs.Tree, sink mkfs.Sink) error { return t.AddDir(ctx, path, sink) }, nil
}

// tarSource reads a tar archive, or standard input for "-".
func tarSource(path string) mkfs.Source {
	return func(ctx context.Context, t *mkfs.Tree, sink mkfs.Sink) (err error) {
		f := os.Stdin
		if path != "-" {
			if f, err = os.Open(path); err != nil {
				return err
			}
			defer f.Close()
		}
		if err := t.AddTar(ctx, f, sink); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
		return nil
	}
}

// parseUUID reads the usual form of 32 hexadecimal digits with hyphens.
func parseUUID(s string) (uuid [16]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(uuid) {
		return uuid, fmt.Errorf("%q is no UUID", s)
	}
	copy(uuid[:], b)
	return uuid, nil
}

func formatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// mkfsSummary is what --json prints. Sizes are in bytes.
type mkfsSummary struct {
	File      string  `json:"file"`
	Size      int64   `json:"size"`
	MetaBytes int64   `json:"metaBytes"`
	Inodes    uint64  `json:"inodes"`
	UUID      string  `json:"uuid"`
	Files     int64   `json:"files"`     // regular files with data, hard links once
	DataBytes int64   `json:"dataBytes"` // their data, holes left out
	Shared    int64   `json:"shared"`    // of these, what another file holds already
	Inlined   int64   `json:"inlined"`   // of these, what lies in the metadata
	BlobDev   string  `json:"blobdev,omitempty"`
	BlobTag   string  `json:"blobTag,omitempty"`
	BlobSize  int64   `json:"blobSize,omitempty"`
	Seconds   float64 `json:"seconds"`
}

func printMkfs(c *cli.Context, s mkfs.ImageStats, took time.Duration) error {
	out := c.App.Writer
	file := c.Args().First()
	if c.Bool("json") {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(mkfsSummary{
			File: file, Size: s.Image.Size, MetaBytes: s.Image.MetaBytes, Inodes: s.Image.Inodes, UUID: formatUUID(s.UUID),
			Files: s.Data.Files, DataBytes: s.Data.Bytes, Shared: s.Data.Shared, Inlined: s.Data.Inlined,
			BlobDev: c.String("blobdev"), BlobTag: s.BlobDev, BlobSize: s.BlobSize, Seconds: took.Seconds(),
		})
	}
	if c.Bool("quiet") {
		return nil
	}
	_, err := fmt.Fprintf(out, "%s: %s, %s inodes, %s of metadata, %s of data (%s shared) in %s\n", file,
		humanize.IBytes(uint64(s.Image.Size+s.BlobSize)), humanize.Comma(int64(s.Image.Inodes)), humanize.IBytes(uint64(s.Image.MetaBytes)),
		humanize.IBytes(uint64(s.Data.Bytes)), humanize.IBytes(uint64(s.Data.Shared)), took.Round(time.Millisecond))
	if err == nil && s.BlobDev != "" {
		_, err = fmt.Fprintf(out, "%s: %s, sha256 %s\n", c.String("blobdev"), humanize.IBytes(uint64(s.BlobSize)), s.BlobDev)
	}
	return err
}
