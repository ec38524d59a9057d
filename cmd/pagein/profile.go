package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/mkfs/hot"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/image"
	"github.com/pagein/pagein/oci/optimize"
	"github.com/pagein/pagein/oci/profiles"
	"github.com/pagein/pagein/oci/view"
	"github.com/pagein/pagein/profile"
)

// profileCommand is "pagein profile".
func profileCommand() *cli.Command {
	output := &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to `FILE` instead of standard output"}
	all := []*cli.Command{
		{
			Name: "show", Usage: "list what a profile names", ArgsUsage: "PROFILE", Description: profileNames, Flags: []cli.Flag{platformFlag(), jsonFlag()},
			Action: withProfiles(1, 1, showProfile),
		},
		{
			Name: "merge", Usage: "make one profile of several", ArgsUsage: "PROFILE...", Description: profileNames,
			Flags:  []cli.Flag{&cli.IntFlag{Name: "min", Usage: "keep what was touched in at least `K` of all runs"}, output, platformFlag()},
			Action: withProfiles(1, profile.MaxProfiles, mergeProfiles),
		},
		{
			Name: "diff", Usage: "compare two profiles", ArgsUsage: "PROFILE PROFILE", Description: profileNames, Flags: []cli.Flag{platformFlag(), jsonFlag()},
			Action: withProfiles(2, 2, diffProfiles),
		},
		{
			Name: "apply", Usage: "say how much of a profile an artifact has", ArgsUsage: "PROFILE REF", Description: profileNames + "\n\n" + lookRefs,
			Flags: []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the profile to `FILE`, with the sizes and digests that the artifact's files have"}, tempDirFlag(), platformFlag(), jsonFlag()},
			Action: operands(2, func(ctx context.Context, l *looker, args []string) error {
				return applyProfile(ctx, l, args[0], args[1])
			}),
		},
		{
			Name: "push", Usage: "store a profile with the image that it was recorded of", ArgsUsage: "PROFILE REF",
			Description: "REF is an image in a registry, which the profile is attached to, or oci:DIR:TAG.\n\n" + profileNames, Flags: []cli.Flag{platformFlag()},
			Action: operands(2, func(ctx context.Context, l *looker, args []string) error {
				return pushProfile(ctx, l, args[0], args[1])
			}),
		},
		{
			Name: "pull", Usage: "fetch a profile", ArgsUsage: "PROFILE", Description: profileNames, Flags: []cli.Flag{output, platformFlag()},
			Action: withProfiles(1, 1, func(l *looker, p []*profile.Profile) error { return writeProfile(l.c, p[0], l.c.String("output")) }),
		},
		profileSuggestCommand(),
	}
	for _, c := range all {
		c.OnUsageError = badOption
		c.HideHelpCommand = true
		takeOptionsAnywhere(c)
	}
	return &cli.Command{Name: "profile", Usage: "look into, combine, store and fetch profiles", Subcommands: all, Action: noSubcommand}
}

// noSubcommand is what happens when the first operand is none.
func noSubcommand(c *cli.Context) error {
	var names []string
	for _, s := range c.Command.Subcommands {
		names = append(names, s.Name)
	}
	return misuse(c, "want one of %s; got %q", strings.Join(names, ", "), c.Args().Slice())
}

// operands checks their number and opens what they need.
func operands(n int, f func(context.Context, *looker, []string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.NArg() != n {
			return misuse(c, "want %d operands; there are %d", n, c.NArg())
		}
		return look(c, func(l *looker) error { return f(c.Context, l, c.Args().Slice()) })
	}
}

// withProfiles reads the profiles that the operands name.
func withProfiles(least, most int, f func(*looker, []*profile.Profile) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.NArg() < least || c.NArg() > most {
			return misuse(c, "want %d to %d profiles; there are %d", least, most, c.NArg())
		}
		return look(c, func(l *looker) error {
			var all []*profile.Profile
			for _, name := range c.Args().Slice() {
				p, err := l.profile(c.Context, name)
				if err != nil {
					return err
				}
				all = append(all, p)
			}
			return f(l, all)
		})
	}
}

func mergeProfiles(l *looker, all []*profile.Profile) error {
	p, err := profile.Merge(all, l.c.Int("min"))
	if err != nil {
		return err
	}
	if l.c.Int("min") <= 1 && !p.Enough() {
		fmt.Fprintf(l.c.App.ErrWriter, "pagein profile: note: one more run would touch about %s that none of these has; more recordings make it less\n", iBytes(p.Unseen()))
	}
	return writeProfile(l.c, p, l.c.String("output"))
}

// applyProfile says what a profile would be worth for an artifact.
func applyProfile(ctx context.Context, l *looker, name, ref string) error {
	p, err := l.profile(ctx, name)
	if err != nil {
		return err
	}
	v, err := l.converted(ctx, ref)
	if err != nil {
		return err
	}
	coverage, bytes, err := optimize.Cover(ctx, v, p)
	if err != nil {
		return err
	}
	if out := l.c.String("output"); out != "" {
		if err := optimize.Identify(ctx, v, p); err != nil {
			return err
		}
		if err := writeProfile(l.c, p, out); err != nil {
			return err
		}
	}
	if l.c.Bool("json") {
		return printJSON(l.c, struct {
			hot.Coverage
			Hot int64 `json:"hot"`
		}{coverage, bytes})
	}
	if err := printCoverage(l.c.App.Writer, coverage); err != nil {
		return err
	}
	_, err = fmt.Fprintf(l.c.App.Writer, "hot data        %s\n", iBytes(bytes))
	return err
}

// identify gives a profile the digests that an image's artifact has, if it has one.
func (l *looker) identify(ctx context.Context, name string, p *profile.Profile) error {
	v, err := l.converted(ctx, name)
	if errors.Is(err, artifact.ErrNotArtifact) {
		return nil
	}
	if err != nil {
		return err
	}
	return optimize.Identify(ctx, v, p)
}

// converted opens an artifact as it was converted.
func (l *looker) converted(ctx context.Context, name string) (*view.View, error) {
	ref, err := l.parse(name)
	if err != nil {
		return nil, err
	}
	if ref.Kind != oci.Layout && ref.Kind != oci.Registry {
		return nil, misuse(l.c, "%s is no artifact", ref)
	}
	place, a, err := artifact.Find(ctx, l.client, ref, l.platform)
	if err == nil {
		a, err = converted(ctx, place, ref, a)
	}
	if err != nil {
		return nil, err
	}
	return l.keep(view.Open(ctx, place, a, l.options()))
}

// pushProfile stores a profile.
func pushProfile(ctx context.Context, l *looker, name, to string) error {
	p, err := l.profile(ctx, name)
	if err != nil {
		return err
	}
	ref, err := l.parse(to)
	if err != nil {
		return err
	}
	if ref.Kind == oci.Layout {
		return pushToLayout(ctx, l, p, ref)
	}
	place, err := artifact.Open(l.client, ref)
	if err != nil {
		return err
	}
	subject, err := place.Resolve(ctx, ref)
	if err == nil {
		subject, err = image.Choose(ctx, place.Target(), subject, l.platform)
	}
	if err != nil {
		return fmt.Errorf("find the image of the profile: %w", err)
	}
	if p.Subject != "" && p.Subject != subject.Digest.String() {
		fmt.Fprintf(l.c.App.ErrWriter, "pagein profile: note: it was recorded of %s\n", p.Subject)
	} else if err := l.identify(ctx, to, p); err != nil {
		return err
	}
	desc, err := profiles.Push(ctx, place.Target(), &subject, p)
	if err != nil {
		return err
	}
	ref.Tag, ref.Digest = "", desc.Digest
	_, err = fmt.Fprintln(l.c.App.Writer, ref)
	return err
}

// pushToLayout stores a profile under a tag.
func pushToLayout(ctx context.Context, l *looker, p *profile.Profile, ref oci.Ref) (err error) {
	if ref.Tag == "" {
		return misuse(l.c, "%s has no tag", ref)
	}
	place, err := openTarget(l.client, ref)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, place.Layout.Discard())
		}
	}()
	var desc ocispec.Descriptor
	if desc, err = profiles.Push(ctx, place.Target(), nil, p); err != nil {
		return err
	}
	if err = place.Target().Tag(ctx, desc, ref.Tag); err != nil {
		return err
	}
	_, err = fmt.Fprintln(l.c.App.Writer, ref)
	return err
}

// kindWords says what happened to pages.
var kindWords = map[profile.Kind]string{profile.KindRead: "read", profile.KindFault: "fault", profile.KindAround: "around", profile.KindMiss: "miss"}

// profileJSON is a profile for programs.
type profileJSON struct {
	Subject string      `json:"subject,omitempty"`
	Runs    int         `json:"runs"`
	Ready   float64     `json:"ready_seconds,omitempty"`
	Files   int         `json:"files"`
	Bytes   int64       `json:"bytes"`
	Entries []entryJSON `json:"entries"`
}

type entryJSON struct {
	Seconds float64 `json:"seconds"`
	Path    string  `json:"path"`
	Off     int64   `json:"offset"`
	Len     int64   `json:"length"`
	Kind    string  `json:"kind"`
	Runs    int     `json:"runs"`
}

func toJSON(entries []profile.Entry) []entryJSON {
	all := make([]entryJSON, 0, len(entries))
	for _, e := range entries {
		all = append(all, entryJSON{e.Time.Seconds(), e.Path, e.Off, e.Len, kindWords[e.Kind], max(e.Runs, 1)})
	}
	return all
}

func showProfile(l *looker, all []*profile.Profile) error {
	p := all[0]
	files, bytes := p.Totals()
	if l.c.Bool("json") {
		return printJSON(l.c, profileJSON{p.Subject, max(p.Runs, 1), p.Ready.Seconds(), files, bytes, toJSON(p.Entries)})
	}
	w := tabwriter.NewWriter(l.c.App.Writer, 0, 8, 2, ' ', 0)
	if p.Subject != "" {
		fmt.Fprintf(w, "image\t%s\n", p.Subject)
	}
	fmt.Fprintf(w, "runs\t%d\nready\t%v\ntouched\t%s of %s files\n\n", max(p.Runs, 1), p.Ready.Round(time.Millisecond), iBytes(bytes), humanize.Comma(int64(files)))
	fmt.Fprintln(w, "TIME\tOFFSET\tLENGTH\tHOW\tRUNS\tFILE")
	for _, e := range p.Entries {
		fmt.Fprintf(w, "%v\t%d\t%d\t%s\t%d\t%s\n", e.Time.Round(time.Microsecond), e.Off, e.Len, kindWords[e.Kind], max(e.Runs, 1), quoteName(e.Path))
	}
	return w.Flush()
}

func diffProfiles(l *looker, all []*profile.Profile) error {
	d := profile.Diff(all[0], all[1])
	if l.c.Bool("json") {
		return printJSON(l.c, struct {
			BothBytes  int64       `json:"both_bytes"`
			OnlyABytes int64       `json:"only_first_bytes"`
			OnlyBBytes int64       `json:"only_second_bytes"`
			OnlyA      []entryJSON `json:"only_first"`
			OnlyB      []entryJSON `json:"only_second"`
		}{profile.Bytes(d.Both), profile.Bytes(d.OnlyA), profile.Bytes(d.OnlyB), toJSON(d.OnlyA), toJSON(d.OnlyB)})
	}
	w := tabwriter.NewWriter(l.c.App.Writer, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "in both\t%s\nonly in the first\t%s\nonly in the second\t%s\n\n", iBytes(profile.Bytes(d.Both)), iBytes(profile.Bytes(d.OnlyA)), iBytes(profile.Bytes(d.OnlyB)))
	for _, side := range []struct {
		sign    string
		entries []profile.Entry
	}{{"-", d.OnlyA}, {"+", d.OnlyB}} {
		slices.SortStableFunc(side.entries, func(a, b profile.Entry) int { return strings.Compare(a.Path, b.Path) })
		for _, e := range side.entries {
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", side.sign, e.Off, e.Len, quoteName(e.Path))
		}
	}
	return w.Flush()
}
