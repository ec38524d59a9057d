package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/treediff"
)

// ignoreFlag and ignored choose what may differ.
func ignoreFlag() cli.Flag {
	return &cli.StringFlag{Name: "ignore", Usage: "do not compare these attributes: `LIST` of " + strings.Join(ignorable(), ",")}
}

func ignorable() []string {
	return []string{"mode", "owner", "mtime", "device", "target", "links", "size", "content", "xattr"}
}

func ignored(c *cli.Context) (map[string]bool, error) {
	list := map[string]bool{}
	for name := range strings.SplitSeq(c.String("ignore"), ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if !slices.Contains(ignorable(), name) {
			return nil, fmt.Errorf("%q cannot be ignored, only %s can", name, strings.Join(ignorable(), ", "))
		}
		list[name] = true
	}
	return list, nil
}

// differences prints what a comparison finds, line by line or as a JSON list, and counts.
type differences struct {
	w, errs io.Writer
	name    string            // of the command
	list    *jsonList         // where they go, or
	keep    *[]jsonDifference // where the first of them are kept; both nil: lines
	found   int64
	unread  int64 // files that could not be compared
}

func newDifferences(c *cli.Context) *differences {
	d := &differences{w: c.App.Writer, errs: c.App.ErrWriter, name: c.Command.Name}
	if c.Bool("json") {
		d.list = &jsonList{w: c.App.Writer}
	}
	return d
}

// jsonDifference is one difference in the answer of diff --json.
type jsonDifference struct {
	jsonPath
	Kind  treediff.Kind   `json:"kind"`
	Type  string          `json:"type"`
	Attrs []jsonAttribute `json:"attributes,omitempty"`
}

type jsonAttribute struct {
	Name string `json:"name"`
	A    string `json:"a"`
	B    string `json:"b"`
}

func (d *differences) add(x treediff.Difference) error {
	if x.Err != nil {
		d.unread++
		fmt.Fprintf(d.errs, "pagein %s: %s: %v\n", d.name, quoteName(x.Path), x.Err)
		return nil
	}
	d.found++
	switch {
	case d.list != nil:
		return d.list.add(newJSONDifference(x))
	case d.keep == nil:
		_, err := fmt.Fprintln(d.w, describe(x))
		return err
	case len(*d.keep) < maxListed:
		*d.keep = append(*d.keep, newJSONDifference(x))
	}
	return nil
}

func newJSONDifference(x treediff.Difference) jsonDifference {
	j := jsonDifference{jsonPath: newJSONPath(x.Path), Kind: x.Kind, Type: erofs.TypeName(x.Mode)}
	for _, a := range x.Attrs {
		j.Attrs = append(j.Attrs, jsonAttribute(a))
	}
	return j
}

// describe writes a difference as a line.
func describe(x treediff.Difference) string {
	switch x.Kind {
	case treediff.Added:
		return fmt.Sprintf("+ %s (%s)", quoteName(x.Path), erofs.TypeName(x.Mode))
	case treediff.Removed:
		return fmt.Sprintf("- %s (%s)", quoteName(x.Path), erofs.TypeName(x.Mode))
	}
	var attrs []string
	for _, a := range x.Attrs {
		attrs = append(attrs, fmt.Sprintf("%s %s -> %s", quoteName(a.Name), a.A, a.B))
	}
	return fmt.Sprintf("! %s: %s", quoteName(x.Path), strings.Join(attrs, "; "))
}
