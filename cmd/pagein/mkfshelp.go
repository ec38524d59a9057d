package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// mkfsFlags are the options that are taken, as the library wants them for completion.
func mkfsFlags() []cli.Flag {
	var flags []cli.Flag
	for _, o := range mkfsOptions() {
		switch {
		case o.refused != "", o.name == "help", o.name == "h": // the library knows the latter
		case o.value == "":
			flags = append(flags, &cli.BoolFlag{Name: o.name, Usage: o.help})
		default:
			flags = append(flags, &cli.StringFlag{Name: o.name, Usage: o.help})
		}
	}
	return flags
}

// mkfsHelp is what --help prints.
func mkfsHelp() string {
	var b strings.Builder
	b.WriteString("NAME:\n   pagein mkfs - write a directory or a tar archive as a plain EROFS image\n\nUSAGE:\n   pagein mkfs [options] FILE SOURCE\n\nDESCRIPTION:\n   ")
	b.WriteString(strings.ReplaceAll(mkfsDescription, "\n", "\n   "))
	b.WriteString("\n\nOPTIONS:\n")
	var refused []string
	for _, o := range mkfsOptions() {
		if o.refused != "" {
			refused = append(refused, o.flag())
			continue
		}
		fmt.Fprintf(&b, "   %-28s %s\n", o.usage(), o.help)
	}
	b.WriteString("\nEXTENDED OPTIONS (-E):\n")
	for _, o := range mkfsExtendedOptions() {
		if o.refused != "" {
			refused = append(refused, "-E "+o.name)
			continue
		}
		fmt.Fprintf(&b, "   %-28s %s\n", o.name, o.help)
	}
	b.WriteString("\nOptions of mkfs.erofs that are refused, with a reason when they are given:\n   ")
	b.WriteString(wrap(refused, 120, "\n   "))
	b.WriteString("\n")
	return b.String()
}

// wrap joins words with commas, in lines of at most so many bytes.
func wrap(words []string, width int, newline string) string {
	var b strings.Builder
	used := 0
	for i, w := range words {
		if i < len(words)-1 {
			w += ","
		}
		switch {
		case i == 0:
		case used+1+len(w) > width:
			b.WriteString(newline)
			used = 0
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(w)
		used += len(w)
	}
	return b.String()
}
