package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// takeOptionsAnywhere lets a command's options follow operands, as those of other programs on this system do: the flag package stops at the first
// operand. Commands that parse for themselves are left alone.
func takeOptionsAnywhere(cmd *cli.Command) {
	if cmd.SkipFlagParsing {
		return
	}
	action, flags := cmd.Action, cmd.Flags
	cmd.SkipFlagParsing = true
	cmd.Action = func(c *cli.Context) error {
		parsed, err := parseLikeGetopt(c, flags)
		switch {
		case errors.Is(err, flag.ErrHelp):
			return cli.ShowSubcommandHelp(c)
		case err != nil:
			return misuse(c, "%v", err)
		}
		return withHint(parsed.Args().Slice(), action(parsed))
	}
}

// parseLikeGetopt parses the arguments of a command as getopt_long would: a value may be glued to a short option, as in -T0, short options without values
// may share a dash, as in -lR, and operands may stand before options. A lone "-" is an operand, "--" ends the options. The command must
// skip flag parsing. It returns flag.ErrHelp for -h and --help.
func parseLikeGetopt(c *cli.Context, flags []cli.Flag) (*cli.Context, error) {
	set := flag.NewFlagSet(c.Command.Name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	valued, bare, first := map[string]bool{}, map[string]bool{}, map[string]string{}
	for _, f := range flags {
		if err := f.Apply(set); err != nil {
			return c, err
		}
		names := valued
		if _, isBool := f.(*cli.BoolFlag); isBool {
			names = bare
		}
		for _, name := range f.Names() {
			names[name], first[name] = true, f.Names()[0]
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
			options = append(options, "-"+first[arg[1:2]], arg[2:])
			continue
		}
		if letters := arg[1:]; !bare[letters] && areAll(bare, letters) {
			for _, letter := range letters {
				options = append(options, "-"+first[string(letter)])
			}
			continue
		}
		name, value, glued := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if first[name] != "" { // the library looks for values under the first name
			arg = "-" + first[name]
			if glued {
				arg += "=" + value
			}
		}
		if first[name] == "" && name != "h" && name != "help" {
			return c, fmt.Errorf("there is no option %s", strings.TrimSuffix(arg, "="+value))
		}
		options = append(options, arg)
		if valued[name] && !glued {
			if len(args) == 1 {
				return c, fmt.Errorf("the value of %s is missing", args[0])
			}
			options = append(options, args[1])
			args = args[1:]
		}
	}
	parsed := cli.NewContext(c.App, set, c)
	parsed.Command = c.Command
	return parsed, set.Parse(append(append(options, "--"), operands...))
}

// areAll reports whether each letter is the name of an option.
func areAll(options map[string]bool, letters string) bool {
	for _, letter := range letters {
		if !options[string(letter)] {
			return false
		}
	}
	return true
}
