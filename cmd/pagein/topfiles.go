package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/report"
)

const (
	// topFiles is how many files are shown.
	topFiles = 5
	// topImages bounds of how many images files are looked for at a time, and how many images' names of files are kept.
	topImages = 8
)

// slowFile is a file that readers waited for in an interval.
type slowFile struct {
	name    string        // printable
	image   string        // ID
	waited  time.Duration // by all readers
	reads   int           // that are over
	waiting int           // that wait now
}

// slowFiles finds the files that readers wait for.
type slowFiles struct {
	timeline func(ctx context.Context, image string, since time.Duration) (control.Timeline, error)
	tree     func(ctx context.Context, meta string) (*report.Tree, error)
	trees    map[string]*report.Tree // by image; nil for one whose metadata cannot be read
}

// look returns those of an interval, the slowest first. An image that is gone meanwhile has none.
func (s *slowFiles) look(ctx context.Context, i interval) []slowFile {
	var all []slowFile
	asked := 0
	for _, image := range i.now.Images {
		if !i.waited(image) || asked == topImages {
			continue
		}
		asked++
		all = append(all, s.of(ctx, image, i.elapsed)...)
	}
	slices.SortStableFunc(all, func(a, b slowFile) int {
		return cmp.Or(cmp.Compare(b.waited, a.waited), cmp.Compare(a.name, b.name))
	})
	return all[:min(len(all), topFiles)]
}

// waited reports whether readers of an image may have waited in the interval.
func (i interval) waited(image control.Image) bool {
	if image.State == control.Lost {
		return false
	}
	before := slices.IndexFunc(i.before.Images, func(b control.Image) bool { return b.ID == image.ID })
	if before < 0 || i.before.Images[before].FetchedBytes != image.FetchedBytes {
		return true
	}
	return i.now.Totals.WaitingReads > 0 && image.State != control.Complete
}

// of returns the files of one image that readers have waited for lately.
func (s *slowFiles) of(ctx context.Context, image control.Image, lately time.Duration) []slowFile {
	t, err := s.timeline(ctx, image.ID, lately)
	if err != nil {
		return nil
	}
	r := report.Make(report.Input{Timeline: &t, Tree: s.treeOf(ctx, image.ID, t.Meta)})
	byName := make(map[string]*slowFile)
	file := func(name string) *slowFile {
		f := byName[name]
		if f == nil {
			f = &slowFile{name: name, image: image.ID}
			byName[name] = f
		}
		return f
	}
	for _, u := range r.Slowest(topFiles) {
		f := file(u.Name())
		f.waited, f.reads = f.waited+u.Waited, f.reads+u.Waits
	}
	for _, m := range r.Now {
		f := file(m.Name())
		f.waited, f.waiting = f.waited+m.Took, f.waiting+1
	}
	var all []slowFile
	for _, f := range byName {
		all = append(all, *f)
	}
	return all
}

// treeOf returns the files of an image, nil if they cannot be read.
func (s *slowFiles) treeOf(ctx context.Context, image, meta string) *report.Tree {
	tree, ok := s.trees[image]
	if ok {
		return tree
	}
	if len(s.trees) >= topImages {
		clear(s.trees)
	}
	tree, err := s.tree(ctx, meta)
	if err != nil {
		tree = nil // the files have no names then
	}
	s.trees[image] = tree
	return tree
}

func printSlow(w io.Writer, files []slowFile) error {
	if len(files) == 0 {
		return nil
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "\nWAITED\tREADS\tWAITING\tIMAGE\tFILE")
	for _, f := range files {
		fmt.Fprintf(out, "%s\t%d\t%d\t%.12s\t%s\n", f.waited.Round(100*time.Microsecond), f.reads, f.waiting, f.image, f.name)
	}
	return out.Flush()
}
