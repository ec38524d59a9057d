package main

import (
	"errors"
	"fmt"
	"strings"
)

// mkfsOption is an option of "pagein mkfs", or one of mkfs.erofs that is refused by name.
type mkfsOption struct {
	name     string // one letter, or more after two dashes
	value    string // what its value is called; "" for options without one
	optional bool   // the value may be missing; if not, it follows a "="
	help     string
	refused  string // why, and what to do instead; "" if the option is taken
	set      func(m *mkfsRun, value string) error
}

// flag is the option as it is written.
func (o *mkfsOption) flag() string {
	if len(o.name) == 1 {
		return "-" + o.name
	}
	return "--" + o.name
}

// usage is the option with its value.
func (o *mkfsOption) usage() string {
	switch {
	case o.value == "":
		return o.flag()
	case o.optional:
		return o.flag() + "[=" + o.value + "]"
	case len(o.name) == 1:
		return o.flag() + " " + o.value
	}
	return o.flag() + "=" + o.value
}

var errHelp = errors.New("help is wanted")

// parseMkfs parses arguments as getopt_long does in mkfs.erofs: the value of a letter may be glued to it, as in -T0, that of a word follows "=" or is the
// next argument, and operands may stand before options. As everywhere in pagein, -T=0 and --T=0 mean -T0.
func parseMkfs(m *mkfsRun, args []string) error {
	options := map[string]*mkfsOption{}
	table := mkfsOptions()
	for i := range table {
		options[table[i].name] = &table[i]
	}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			m.operands = append(m.operands, args...)
			return nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			m.operands = append(m.operands, arg)
			continue
		}
		name, value, glued := splitArg(arg)
		o := options[name]
		switch {
		case o == nil:
			return fmt.Errorf("there is no option %s", arg)
		case o.refused != "":
			return fmt.Errorf("%s: %s", o.flag(), o.refused)
		case o.value == "" && glued:
			return fmt.Errorf("%s takes no value", o.flag())
		case o.value != "" && !glued && !o.optional:
			if len(args) == 0 {
				return fmt.Errorf("%s: its value %s is missing", o.flag(), o.value)
			}
			value, args = args[0], args[1:]
		}
		if err := o.set(m, value); err != nil {
			if errors.Is(err, errHelp) {
				return err
			}
			return fmt.Errorf("%s: %w", o.flag(), err)
		}
	}
	return nil
}

// splitArg cuts an argument that begins with a dash into the name of an option and the value that is glued to it.
func splitArg(arg string) (name, value string, glued bool) {
	if word, ok := strings.CutPrefix(arg, "--"); ok {
		return strings.Cut(word, "=")
	}
	if len(arg) == 2 {
		return arg[1:], "", false
	}
	return arg[1:2], strings.TrimPrefix(arg[2:], "="), true
}
