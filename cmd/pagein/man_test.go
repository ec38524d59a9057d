package main

import (
	"os"
	"slices"
	"testing"

	"github.com/urfave/cli/v2"
)

// options are the long names of options, as man pages write them.
func options(flags []cli.Flag) (names []string) {
	for _, f := range flags {
		names = append(names, "--"+f.Names()[0])
	}
	slices.Sort(names)
	return names
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
