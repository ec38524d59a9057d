package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
)

// printer writes indented lines, and keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(depth int, format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, strings.Repeat("  ", depth)+format+"\n", args...)
	}
}

// print writes the answer for people, as a tree.
func (r *inspection) print(w io.Writer) error {
	p := &printer{w: w}
	depth := 0
	p.line(depth, "%s", r.Reference)
	if a := r.Artifact; a != nil {
		depth++
		p.line(depth, "artifact %s: %s stored for %s%s", a.Digest, size(a.Stored), size(a.Plain), ratio(a.Stored, a.Plain))
		if a.Subject != "" {
			p.line(depth+1, "subject %s", a.Subject)
		}
		if a.Generation > 0 {
			p.line(depth+1, "generation %d", a.Generation)
		}
		for _, s := range a.Signatures {
			p.line(depth+1, "signatures %s (see pagein verify)", s)
		}
	}
	r.Image.show(p, depth+1)
	for _, b := range r.Blobs {
		b.show(p, depth+1)
	}
	return p.err
}

func (i *inspectImage) show(p *printer, depth int) {
	stored := ""
	if i.Stored > 0 {
		stored = fmt.Sprintf(", %s stored%s, %s", size(i.Stored), ratio(i.Stored, i.Size), perInode(i.Stored, i.Inodes))
	}
	p.line(depth, "image %s: %s, %s inodes%s", strings.TrimSpace(i.Digest+" UUID "+i.UUID), size(i.Size), humanize.Comma(int64(i.Inodes)), stored)
	if i.Label != "" {
		p.line(depth+1, "label %s", quoteName(i.Label))
	}
	if i.Layer != "" {
		p.line(depth+1, "layer %s", i.Layer)
	}
	p.line(depth+1, "features %s; required %s", listOr(i.Compatible, "none"), listOr(i.Required, "none"))
}

func (b *inspectBlob) show(p *printer, depth int) {
	if b.Frames == 0 {
		p.line(depth, "device %d %s: %s", b.Device, quoteName(b.ID), size(b.Size))
		return
	}
	p.line(depth, "blob %d %s: %s, %s stored%s", b.Device, b.ID, size(b.Size), size(b.Stored), ratio(b.Stored, b.Size))
	var codecs []string
	for _, name := range slices.Sorted(maps.Keys(b.Codecs)) {
		codecs = append(codecs, fmt.Sprintf("%s %s", humanize.Comma(int64(b.Codecs[name])), name))
	}
	p.line(depth+1, "%s frames (%s), %s each on average", humanize.Comma(int64(b.Frames)), strings.Join(codecs, ", "), size(b.Size/int64(b.Frames)))
	if b.Ago > 0 {
		p.line(depth+1, "borrowed: made %s ago", count(int64(b.Ago), "artifact"))
	}
	p.line(depth+1, "map %s: %s plain", b.Map, size(b.MapSize))
	if b.Index != "" {
		p.line(depth+1, "index %s: %s stored", b.Index, size(b.indexStored))
	}
	for i, s := range b.Sources {
		p.line(depth+1, "source %d %s: %s", i, s.Digest, size(s.Size))
		for _, u := range s.URLs {
			p.line(depth+2, "at %s", u)
		}
	}
	for i, f := range b.List {
		p.line(depth+1, "frame %d: %d+%d from source %d at %d+%d %s %s", i, f.Offset, f.Size, f.Source, f.SourceOffset, f.Stored, f.Codec, f.SHA256)
	}
}

// ratio writes " (0.25)".
func ratio(part, whole int64) string {
	if whole == 0 {
		return ""
	}
	return fmt.Sprintf(" (%.2f)", float64(part)/float64(whole))
}

func perInode(n int64, inodes uint64) string {
	if inodes == 0 {
		return "none for inodes"
	}
	return fmt.Sprintf("%.1f bytes per inode", float64(n)/float64(inodes))
}

func listOr(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return strings.Join(list, ", ")
}
