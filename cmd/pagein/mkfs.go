package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/mkfs"
)

const mkfsDescription = `Writes an uncompressed EROFS image to FILE, or to standard output if it is -. SOURCE is a directory (PATH or dir:PATH) or a tar archive
(tar:PATH, or tar:- for standard input; gzip and zstd are recognized). Without options that change them, names, owners, times and
attributes are those of the source. The same source gives the same bytes: the UUID is derived from names, attributes, times and sizes in the
tree, not from contents, unless -U gives one. FILE appears when it is complete.

Options are those of mkfs.erofs and may be written like there, as -T0 or -T 0, and may follow the operands.`

// mkfsCommand is "pagein mkfs".
func mkfsCommand() *cli.Command {
	return &cli.Command{
		Name:               "mkfs",
		Usage:              "write a directory or a tar archive as a plain EROFS image",
		ArgsUsage:          "FILE SOURCE",
		Description:        mkfsDescription,
		Flags:              mkfsFlags(),
		CustomHelpTemplate: mkfsHelp(),
		// The flag package knows neither -T0 nor options behind operands.
		SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			m := &mkfsRun{c: c}
			err := parseMkfs(m, c.Args().Slice())
			switch {
			case errors.Is(err, errHelp):
				return cli.ShowSubcommandHelp(c)
			case err == nil && m.version:
				_, err := fmt.Fprintf(c.App.Writer, "pagein mkfs %s\n", c.App.Version)
				return err
			case err == nil:
				err = m.check()
			}
			if err != nil {
				return misuse(c, "%v", err)
			}
			return m.run()
		},
	}
}

// mkfsRun is one call of "pagein mkfs".
type mkfsRun struct {
	c        *cli.Context
	operands []string
	image    mkfs.ImageOptions
	exclude  exclusions

	time      *int64 // of -T
	imageTime bool   // which is the image's only
	tar       bool
	workers   int // 0: as many as there are processors
	quiet     bool
	noNotes   bool
	json      bool
	version   bool
}

// stdio is the operand that stands for standard input or output.
const stdio = "-"

// check finds out whether options and operands go together.
func (m *mkfsRun) check() error {
	if m.tar && len(m.operands) == 1 {
		m.operands = append(m.operands, stdio)
	}
	if len(m.operands) != 2 {
		return fmt.Errorf("%d operands: want FILE and SOURCE", len(m.operands))
	}
	file, source := m.operands[0], m.operands[1]
	if file == "" || source == "" {
		return errors.New("FILE and SOURCE must not be empty")
	}
	if path, ok := strings.CutPrefix(source, "tar:"); ok {
		m.tar, m.operands[1] = true, path
	}
	switch {
	case m.tar && !m.exclude.empty():
		return errors.New("--exclude-path and --exclude-regex are for directories; leave members out of a tar archive with tar --delete, or when it is made")
	case !m.tar && m.image.OverlayWhiteouts:
		return errors.New("--aufs is for tar archives: give --tar too")
	case m.imageTime && m.time == nil:
		return errors.New("--mkfs-time needs -T")
	case file == stdio && isTerminal(m.c.App.Writer):
		return errors.New("an image is not written to a terminal: redirect standard output")
	}
	m.image.BuildTime = m.time
	if !m.imageTime {
		m.image.Mtime = m.time
	}
	if !m.exclude.empty() {
		m.image.Skip = m.exclude.skip
	}
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// run makes the image.
func (m *mkfsRun) run() error {
	defer collectLate()()
	if m.workers > 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(min(m.workers, runtime.NumCPU())))
	}
	progress := newProgressLine(m.c.App.ErrWriter, m.quiet)
	m.image.Progress = progress.update
	m.image.Note = func(message string) {
		if !m.quiet && !m.noNotes {
			progress.clear()
			fmt.Fprintf(m.c.App.ErrWriter, "pagein mkfs: note: %s\n", message)
		}
	}
	started := time.Now()
	stats, err := m.write()
	progress.clear()
	if err != nil {
		return err
	}
	for _, path := range m.exclude.unmet() {
		m.image.Note(fmt.Sprintf("nothing was left out for --exclude-path=%[1]s: %[2]s has no such path, or not apart from what is left out", path, m.operands[1]))
	}
	return m.print(stats, time.Since(started))
}

func (m *mkfsRun) write() (mkfs.ImageStats, error) {
	if m.operands[0] == stdio {
		return mkfs.StreamImage(m.c.Context, m.c.App.Writer, m.source(), m.image)
	}
	return mkfs.WriteImage(m.c.Context, m.operands[0], m.source(), m.image)
}

// source interprets the second operand.
func (m *mkfsRun) source() mkfs.Source {
	if m.tar {
		return tarSource(m.operands[1])
	}
	path := strings.TrimPrefix(m.operands[1], "dir:")
	return func(ctx context.Context, t *mkfs.Tree, sink mkfs.Sink) error { return t.AddDir(ctx, path, sink) }
}

// tarSource reads a tar archive, or standard input for "-".
func tarSource(path string) mkfs.Source {
	return func(ctx context.Context, t *mkfs.Tree, sink mkfs.Sink) (err error) {
		f := os.Stdin
		if path != stdio {
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
