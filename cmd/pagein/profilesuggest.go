package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/profile"
	"github.com/pagein/pagein/report"
)

const profileSuggestDescription = `Writes what pageind has recorded by itself of IMAGE: what the kernel asked for in the first minute after its mounts, and of containers that began later, at most eight of them. IMAGE is what pagein explain takes, or the
reference of an image that is not mounted now. The kernel reads ahead, so this is a little more than was touched, and of bytes that were on the node already it may know nothing: "pagein trace" sees better.`

// profileSuggestCommand is "pagein profile suggest".
func profileSuggestCommand() *cli.Command {
	return &cli.Command{
		Name:        "suggest",
		Usage:       "make a profile of what pageind has recorded of an image",
		ArgsUsage:   "IMAGE",
		Description: profileSuggestDescription,
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the profile to `FILE` instead of standard output"},
			&cli.IntFlag{Name: "min", Value: 1, Usage: "keep what was wanted in at least `K` of the recordings"},
			platformFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misuse(c, "want an image; got %q", c.Args().Slice())
			}
			p, n, err := suggest(c, c.Args().First())
			if err != nil {
				return err
			}
			if err := writeProfile(c, p, c.Path("output")); err != nil {
				return err
			}
			files, bytes := p.Totals()
			_, err = fmt.Fprintf(c.App.ErrWriter, "%s, %s of %s\n", count(int64(n), "recording"), size(bytes), count(int64(files), "file"))
			return err
		},
	}
}

// suggest merges what the daemon has recorded of an image, and says how many recordings that were.
func suggest(c *cli.Context, what string) (p *profile.Profile, n int, err error) {
	client, err := daemon(c)
	if err != nil {
		return nil, 0, err
	}
	defer client.Close()
	status, err := client.Status(c.Context)
	if err != nil {
		return nil, 0, err
	}
	kept, err := recordings(c, client, status, what)
	if err != nil {
		return nil, 0, err
	}
	if len(kept.Recordings) == 0 {
		return nil, 0, fmt.Errorf("pageind has recorded nothing of %s: it does when an image is read that is not on this node", what)
	}
	if kept.Meta == "" {
		return nil, 0, fmt.Errorf("the metadata image of %s is not on this node any more: mount it again", what)
	}
	tree, err := readTree(c.Context, kept.Meta)
	if err != nil {
		return nil, 0, err
	}
	p, err = merged(tree, kept.Recordings, c.Int("min"))
	return p, len(kept.Recordings), err
}

// recordings asks for those of the image that is meant, mounted or not; if there are none, for those of the image that is mounted instead of it.
func recordings(c *cli.Context, client *control.Client, status control.Status, what string) (kept control.Recordings, err error) {
	id, unknown := imageID(c, status, what)
	if unknown == nil {
		if kept, err = client.Recordings(c.Context, id); err != nil || len(kept.Recordings) > 0 {
			return kept, err
		}
	}
	if len(sameRepository(status, what)) == 0 {
		return kept, unknown
	}
	image, err := servedImage(c, status, what)
	if err != nil {
		return kept, err
	}
	return client.Recordings(c.Context, image.ID)
}

// merged makes one profile of recordings.
func merged(tree *report.Tree, recordings []control.Recording, least int) (*profile.Profile, error) {
	var all []*profile.Profile
	for _, r := range recordings {
		all = append(all, tree.Profile(r.Touches))
	}
	return profile.Merge(all, least)
}
