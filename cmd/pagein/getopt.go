package main

import (
	"flag"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// parseLikeGetopt parses the arguments of a command as getopt_long would: a value may be glued to a short option, as in -T0, and operands
// may stand before options. A lone "-" is an operand, "--" ends the options. The command must skip flag parsing. It returns flag.ErrHelp
// for -h and --help.
func parseLikeGetopt(c *cli.Context, flags []cli.Flag) (*cli.Context, error) {
	set := flag.NewFlagSet(c.Command.Name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	valued := map[string]bool{}
	for _, f := range flags {
		if err := f.Apply(set); err != nil {
			return c, err
		}
		if _, isBool := f.(*cli.BoolFlag); !isBool {
			for _, name := range f.Names() {
				valued[name] = true
			}
		}
	}
	var options, operands []string
	for args := c.Args().Slice(); len(args) > 0; args = args[1:] {
		arg := args[0]
		if arg == "--" {
			operands = append(operands, args[1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			operands = append(operands, arg)
			continue
		}
		if len(arg) > 2 && arg[1] != '-' && arg[2] != '=' && valued[arg[1:2]] {
			options = append(options, arg[:2], arg[2:])
			continue
		}
		options = append(options, arg)
		if valued[strings.TrimLeft(arg, "-")] && len(args) > 1 {
			options = append(options, args[1])
			args = args[1:]
		}
	}
	parsed := cli.NewContext(c.App, set, c)
	parsed.Command = c.Command
	return parsed, set.Parse(append(append(options, "--"), operands...))
}
