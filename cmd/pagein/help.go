package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// helpCommand is "pagein help": another way to say --help. The library's own one would stand below each command.
func helpCommand() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "describe a command, or all",
		ArgsUsage: "[COMMAND]",
		BashComplete: func(c *cli.Context) {
			if c.NArg() == 0 {
				for _, command := range c.App.VisibleCommands() {
					fmt.Fprintln(c.App.Writer, command.Name)
				}
			}
		},
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return cli.ShowAppHelp(c)
			}
			if name := c.Args().First(); c.App.Command(name) == nil {
				return misuse(c, "there is no command %q", name)
			}
			return c.App.RunContext(c.Context, append(append([]string{c.App.Name}, c.Args().Slice()...), "--help"))
		},
	}
}

// versionCommand is "pagein version": another way to say --version.
func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version",
		Action: func(c *cli.Context) error {
			if c.NArg() != 0 {
				return misuse(c, "want no operands; got %q", c.Args().Slice())
			}
			cli.ShowVersion(c)
			return nil
		},
	}
}
