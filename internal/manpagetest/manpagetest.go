// Package manpagetest compares a program's manual page with what its command line says with --help, from which the page is made. It knows roff and the library of the command line, and no program.
package manpagetest

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

var update = flag.Bool("update", false, "rewrite the manual pages in docs/man")

// Page is a manual page of a program.
type Page struct {
	File    string            // its path
	Section int               // of the manual
	Also    map[string]int    // sections of other pages, by their names
	Own     map[string]string // which of these describes a command, by the command's name: here it has its line only
}

// Check fails the test if the page is not what the program says, or with -update writes it.
func Check(t *testing.T, app *cli.App, p Page) {
	t.Helper()
	want := p.render(t, app)
	if *update {
		if err := os.WriteFile(p.File, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(p.File)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what %s --help says: go test ./cmd/%s -run TestTheManPageIsWhatHelpSays -update", p.File, app.Name, app.Name)
	}
}

// render writes the page.
func (p Page) render(t *testing.T, app *cli.App) string {
	t.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, ".\\\" Made from what %s says with --help, by a test.\n", app.Name)
	fmt.Fprintf(&out, ".TH %s %d\n.SH NAME\n%s \\- %s\n", strings.ToUpper(roff(app.Name)), p.Section, roff(app.Name), roff(app.Usage))
	fmt.Fprintf(&out, ".SH SYNOPSIS\n%s\n", roff(app.UsageText))
	if app.Description != "" {
		describe(&out, ".SH DESCRIPTION", app.Description)
	}
	commands := slices.DeleteFunc(slices.Clone(app.Commands), func(c *cli.Command) bool { return c.Hidden })
	name := "OPTIONS"
	if len(commands) > 0 {
		name = "GLOBAL OPTIONS"
	}
	fmt.Fprintf(&out, ".SH %s\n", name)
	options(&out, app.Flags)
	if len(commands) > 0 {
		fmt.Fprintln(&out, ".SH COMMANDS")
	}
	for _, c := range commands {
		fmt.Fprintf(&out, ".SS %s\n%s.\n", roff(strings.Join(c.Names(), ", ")), roff(c.Usage))
		if own := p.Own[c.Name]; own != "" {
			fmt.Fprintf(&out, "See\n%s.\n", reference(own, p.Also[own]))
			continue
		}
		if len(c.Subcommands) > 0 {
			t.Errorf("%s %s has commands of its own, and needs a page of its own", app.Name, c.Name)
		}
		usage := app.Name + " " + c.Name
		if len(c.Flags) > 0 {
			usage += " [options]"
		}
		if c.ArgsUsage != "" {
			usage += " " + c.ArgsUsage
		}
		describe(&out, ".PP\n"+roff(cmp.Or(c.UsageText, usage))+"\n.PP", c.Description)
		options(&out, c.Flags)
	}
	fmt.Fprintln(&out, ".SH SEE ALSO")
	for i, name := range slices.Sorted(maps.Keys(p.Also)) {
		if i > 0 {
			fmt.Fprintln(&out, ",")
		}
		fmt.Fprint(&out, reference(name, p.Also[name]))
	}
	fmt.Fprintln(&out)
	return out.String()
}

// describe writes paragraphs below a heading.
func describe(out *strings.Builder, heading, text string) {
	fmt.Fprintln(out, heading)
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			fmt.Fprintln(out, ".PP")
			continue
		}
		fmt.Fprintln(out, roff(line))
	}
}

// options writes what each option does, but for those that every command has.
func options(out *strings.Builder, flags []cli.Flag) {
	for _, f := range flags {
		if slices.Contains(f.Names(), "help") {
			continue
		}
		doc := f.(cli.DocGenerationFlag)
		var names []string
		for _, name := range f.Names() {
			dashes := "--"
			if len(name) == 1 {
				dashes = "-"
			}
			names = append(names, `\fB`+roff(dashes+name)+`\fR`)
		}
		before, rest, _ := strings.Cut(doc.GetUsage(), "`")
		value, after, _ := strings.Cut(rest, "`")
		tag, text := strings.Join(names, ", "), before+value+after
		if doc.TakesValue() {
			tag += ` \fI` + roff(cmp.Or(value, "VALUE")) + `\fR`
			if d := doc.GetDefaultText(); d != "" {
				text += " (default: " + d + ")"
			}
		}
		if env := doc.GetEnvVars(); len(env) > 0 {
			text += " [$" + strings.Join(env, ", $") + "]"
		}
		fmt.Fprintf(out, ".TP\n%s\n%s\n", tag, roff(text))
	}
}

func reference(name string, section int) string {
	return fmt.Sprintf("\\fB%s\\fR(%d)", roff(name), section)
}

// roff escapes a line.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
