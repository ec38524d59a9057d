package main

import (
	"cmp"
	"os"
	"slices"
	"testing"

	"github.com/urfave/cli/v2"
)

// options are the long names of options, as man pages write them.
func options(flags []cli.Flag) (names []string) {
	for _, f := range flags {
		long := slices.MaxFunc(f.Names(), func(a, b string) int { return cmp.Compare(len(a), len(b)) })
		names = append(names, "--"+long)
	}
	slices.Sort(names)
	return names
}

// subcommand is the one of that name.
func subcommand(t *testing.T, c *cli.Command, name string) *cli.Command {
	t.Helper()
	for _, s := range c.Subcommands {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("pagein %s has no command %s", c.Name, name)
	return nil
}

func TestManPagesNameTheOptionsOfCommands(t *testing.T) {
	for _, c := range []struct {
		command  *cli.Command
		page     string
		sections []string
	}{
		{installCommand(), "pagein-install.8", []string{"OPTIONS OF BOTH", "OPTIONS OF INSTALL"}},
		{uninstallCommand(), "pagein-install.8", []string{"OPTIONS OF BOTH", "OPTIONS OF UNINSTALL"}},
		{pullCommand(), "pagein-pull.1", []string{"OPTIONS"}},
		{explainCommand(), "pagein-explain.1", []string{"OPTIONS"}},
		{reportCommand(), "pagein-report.1", []string{"OPTIONS"}},
		{traceCommand(), "pagein-trace.1", []string{"OPTIONS"}},
		{signCommand(), "pagein-sign.1", []string{"OPTIONS"}},
		{verifyCommand(), "pagein-verify.1", []string{"OPTIONS"}},
		{optimizeCommand(), "pagein-optimize.1", []string{"OPTIONS"}},
		{subcommand(t, profileCommand(), "show"), "pagein-profile.1", []string{"OPTIONS OF SHOW AND DIFF"}},
		{subcommand(t, profileCommand(), "merge"), "pagein-profile.1", []string{"OPTIONS OF MERGE"}},
		{subcommand(t, profileCommand(), "diff"), "pagein-profile.1", []string{"OPTIONS OF SHOW AND DIFF"}},
		{subcommand(t, profileCommand(), "apply"), "pagein-profile.1", []string{"OPTIONS OF APPLY"}},
		{subcommand(t, profileCommand(), "push"), "pagein-profile.1", []string{"OPTIONS OF PUSH"}},
		{subcommand(t, profileCommand(), "pull"), "pagein-profile.1", []string{"OPTIONS OF PULL"}},
		{subcommand(t, profileCommand(), "suggest"), "pagein-profile.1", []string{"OPTIONS OF SUGGEST"}},
	} {
		data, err := os.ReadFile("../../docs/man/" + c.page)
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, heading := range c.sections {
			said = append(said, tags(section(t, string(data), heading))...)
		}
		slices.Sort(said)
		if want := options(c.command.Flags); !slices.Equal(said, want) {
			t.Errorf("%s in %s: %q\nthe parser: %q", c.command.Name, c.page, said, want)
		}
	}
}
