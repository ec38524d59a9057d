package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/internal/atomicfile"
	"github.com/pagein/pagein/profile"
	"github.com/pagein/pagein/report"
)

const reportDescription = `WHAT is a profile, as a file, or what pagein explain takes: a container's ID, a directory at or below a mount, the name that an image was pulled by, or the ID of an image, of those
that pageind serves. The report is one HTML file, which needs nothing else: who waited when and why, what came when, what of the image was read, and what to do. Of a profile alone it shows what was touched;
with --image, also what was not.`

func reportCommand() *cli.Command {
	return &cli.Command{
		Name:        "report",
		Usage:       "draw how an image was read, as an HTML file",
		ArgsUsage:   "WHAT",
		Description: reportDescription,
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "o", Aliases: []string{"output"}, Value: "report.html", Usage: "write to the file `F`, - for standard output"},
			&cli.StringFlag{Name: "image", Usage: "compare the profile with the artifact `REF`, of which only metadata is fetched"},
			&cli.StringFlag{Name: "link", Usage: "compare with a link of this `RATE`, such as 200Mbit/s or 25MB/s (default: the most that came in 200 ms)"},
			platformFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misuse(c, "want a profile, a container, a mount or an image; got %q", c.Args().Slice())
			}
			link, err := parseRate(c.String("link"))
			if err != nil {
				return misuse(c, "link: %v", err)
			}
			in, err := reportInput(c, c.Args().First())
			if err != nil {
				return err
			}
			in.Link = link
			return writeReport(c, report.Make(in), c.Path("o"))
		},
	}
}

// reportInput reads a profile, if what is the name of a file, or asks the daemon.
func reportInput(c *cli.Context, what string) (report.Input, error) {
	if st, err := os.Stat(what); err != nil || !st.Mode().IsRegular() {
		if c.IsSet("image") {
			return report.Input{}, misuse(c, "--image is for profiles, and %s is no file", what)
		}
		return recorded(c, what)
	}
	f, err := os.Open(what)
	if err != nil {
		return report.Input{}, err
	}
	defer f.Close()
	p, err := profile.Read(f)
	if err != nil {
		return report.Input{}, fmt.Errorf("%s: %w", what, err)
	}
	in := report.Input{Title: what, Profile: p}
	if !c.IsSet("image") {
		return in, nil
	}
	in.Title = c.String("image")
	return in, look(c, func(l *looker) error {
		image, err := l.open(c.Context, in.Title)
		if err != nil {
			return err
		}
		in.Tree, err = report.ReadTree(c.Context, image.tree)
		return err
	})
}

func writeReport(c *cli.Context, r *report.Report, path string) error {
	if path == "-" {
		return r.HTML(c.App.Writer)
	}
	f, err := atomicfile.Create(path, 0o644)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	defer f.Discard()
	out := bufio.NewWriter(f)
	if err := errors.Join(r.HTML(out), out.Flush()); err != nil {
		return fmt.Errorf("write report %s: %w", path, err)
	}
	if err := f.Commit(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	_, err = fmt.Fprintf(c.App.Writer, "wrote %s\n", path)
	return err
}

// parseRate reads "200Mbit/s" or "25MB/s" as bytes per second, and "" as 0.
func parseRate(s string) (float64, error) {
	if s == "" {
		return 0, nil
	}
	text := strings.TrimSuffix(s, "/s")
	for unit, factor := range map[string]float64{"kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9} {
		if number, ok := strings.CutSuffix(text, unit); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			if err != nil || !(v*factor >= 8) || v*factor > 1e15 {
				return 0, fmt.Errorf("%q is no rate such as 200Mbit/s", s)
			}
			return v * factor / 8, nil
		}
	}
	v, err := humanize.ParseBytes(text)
	if err != nil || v == 0 {
		return 0, fmt.Errorf("%q is no rate such as 200Mbit/s or 25MB/s", s)
	}
	return float64(v), nil
}
