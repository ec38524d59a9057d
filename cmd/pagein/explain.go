package main

import (
	"errors"
	"io/fs"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/report"
)

const explainDescription = `WHAT is a container's ID, a directory at or below a mount, the name that an image was pulled by, or the ID of an image, of those that pageind serves. Of names that the mounts do
not have, as containerd mounts images by digest, the registry is asked which image is meant. What is told begins with the mount, or, for
an image that an earlier pageind has mounted, with its start. The first 3,072 events and the latest 1,024 are kept.`

func explainCommand() *cli.Command {
	return &cli.Command{
		Name:        "explain",
		Usage:       "tell what readers of an image waited for, for how long and why",
		ArgsUsage:   "WHAT",
		Description: explainDescription,
		Flags:       []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misuse(c, "want a container, a mount or an image; got %q", c.Args().Slice())
			}
			in, err := recorded(c, c.Args().First())
			if err != nil {
				return err
			}
			r := report.Make(in)
			if c.Bool("json") {
				return printJSON(c, r)
			}
			return r.Text(c.App.Writer)
		},
	}
}

// recorded asks the daemon what happened to an image.
func recorded(c *cli.Context, what string) (report.Input, error) {
	client, err := daemon(c)
	if err != nil {
		return report.Input{}, err
	}
	defer client.Close()
	status, err := client.Status(c.Context)
	if err != nil {
		return report.Input{}, err
	}
	image, err := servedImage(c, status, what)
	if err != nil {
		return report.Input{}, err
	}
	timeline, err := client.Timeline(c.Context, image.ID, 0)
	if err != nil {
		return report.Input{}, err
	}
	tree, err := treeOf(c, timeline)
	return report.Input{Timeline: &timeline, Tree: tree}, err
}

// treeOf reads the files of an image that the daemon serves, nil if it keeps no metadata image.
func treeOf(c *cli.Context, t control.Timeline) (*report.Tree, error) {
	tree, err := readTree(c.Context, t.Meta)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return tree, err
}
