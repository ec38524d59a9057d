package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestOptionsMayStandAnywhere(t *testing.T) {
	for args, want := range map[string]string{
		"a b":                       "false false  [] [a b]",
		"-l a -R b":                 "true true  [] [a b]",
		"a b -lR":                   "true true  [] [a b]",
		"a --name x b":              "false false x [] [a b]",
		"a b --name=x":              "false false x [] [a b]",
		"a --dict x,y b --dict z":   "false false  [x,y z] [a b]",
		"-nx a":                     "false false x [] [a]",
		"a -- -l":                   "false false  [] [a -l]",
		"- -l":                      "true false  [] [-]",
		"a -lx":                     "! there is no option -lx",
		"a --bogus":                 "! there is no option --bogus",
		"a --name":                  "! the value of --name is missing",
		"a --generate-bash-complet": "! there is no option --generate-bash-complet",
	} {
		got := ""
		command := &cli.Command{
			Name: "test",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "l"}, &cli.BoolFlag{Name: "R"}, &cli.StringFlag{Name: "name", Aliases: []string{"n"}}, &cli.StringSliceFlag{Name: "dict"},
			},
			Action: func(c *cli.Context) error {
				got = strings.TrimSpace(strings.Join([]string{
					boolText(c.Bool("l")), boolText(c.Bool("R")), c.String("name"), listText(c.StringSlice("dict")), listText(c.Args().Slice()),
				}, " "))
				return nil
			},
		}
		takeOptionsAnywhere(command)
		app := &cli.App{
			Name: "pagein", Commands: []*cli.Command{command}, Writer: io.Discard, ErrWriter: io.Discard, DisableSliceFlagSeparator: true,
			ExitErrHandler: func(*cli.Context, error) {},
		}
		err := app.Run(slices.Concat([]string{"pagein", "test"}, strings.Fields(args)))
		if err != nil {
			got = "! " + strings.TrimSuffix(strings.TrimPrefix(err.Error(), "test: "), " (see pagein test --help)")
		}
		if got != want {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
}

func boolText(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

func listText(list []string) string { return "[" + strings.Join(list, " ") + "]" }
