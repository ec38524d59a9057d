package report

import (
	"crypto/sha256"
	_ "embed" // for the page
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"time"

	"github.com/dustin/go-humanize"
)

// The page is one file: its style and its script are in it, and the policy in its head allows these two and nothing else, so that it asks no network for anything, whatever the names in it are.
var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
)

// page is what the template is filled with.
type page struct {
	*Report
	CSS       template.CSS
	JS        template.JS
	CSSHash   string
	JSHash    string
	Cards     []card
	Waterfall waterfall
	Treemap   *treemap
	Chart     *chart
	Rows      []Used // of the table of files
	Slow      []Used
	Dirs      []dirRow
}

// card is a figure at the top.
type card struct{ Name, Value, Note string }

// dirRow is a line of the table of directories.
type dirRow struct {
	Name       string
	Size, Read int64
	Brought    int64
	Files      int
}

// maxRows bounds the tables behind the pictures.
const maxRows = 200

// HTML writes the report as one page that needs nothing else. Its size is bounded, however much was recorded.
func (r *Report) HTML(w io.Writer) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"name": Printable, "bytes": bytes, "seconds": seconds, "offset": offset, "rate": rate, "reason": reasonWords, "plus": func(a, b float64) float64 { return round(a + b) },
		"percent": func(part, whole int64) string { return percent(part, whole) },
		"comma":   func(n int) string { return humanize.Comma(int64(n)) },
		"date":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	}).Parse(pageHTML)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	drawn := r.window()
	p := page{
		Report: r, CSS: template.CSS(pageCSS), JS: template.JS(pageJS), CSSHash: hash(pageCSS), JSHash: hash(pageJS), Cards: r.cards(), Waterfall: r.waterfall(drawn), Chart: r.chart(drawn),
		Rows: r.Files[:min(len(r.Files), maxRows)], Slow: r.Slowest(20),
	}
	if r.tree != nil && r.Image.Bytes > 0 {
		root := r.directories()
		p.Treemap = r.treemap(root)
		p.Dirs = dirRows(root)
	}
	if err := t.Execute(w, p); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// hash names a text in a content security policy.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

func (r *Report) cards() (cards []card) {
	i, c := r.Image, r.Curve
	if r.Measured {
		cards = append(cards, card{"Readers waited", seconds(r.Waits.Any), count(r.Waits.Count, "read waited", "reads waited") + r.lastWait() + r.failedNote() + r.nowNote()})
		cards = append(cards, card{"Fetched", bytes(i.Fetched), "of " + known(i.Compressed, bytes) + ", compressed"})
	} else {
		cards = append(cards, card{"Touched for", seconds(r.Length), "until it was ready, or until the last touch"})
	}
	read, files := card{"Read", bytes(i.ReadBytes), "of an image that is not known"}, card{"Files read", humanize.Comma(int64(i.Read)), "of an image that is not known"}
	read.Value, files.Value = r.seen(read.Value), r.seen(files.Value)
	if i.Bytes > 0 {
		read.Note = "of " + bytes(i.Bytes) + ", unpacked" + r.seenPart()
	}
	if i.Files > 0 {
		files.Note = "of " + humanize.Comma(int64(i.Files))
	}
	cards = append(cards, read, files)
	if c.Full > 0 {
		cards = append(cards, card{"A full pull", seconds(c.Full), "at " + rate(c.Link) + ", before unpacking"})
	}
	return cards
}

// failedNote says how many reads failed.
func (r *Report) failedNote() string {
	if text := r.failed(); text != "" {
		return "; " + text
	}
	return ""
}

// nowNote says how many reads wait now.
func (r *Report) nowNote() string {
	if len(r.Now) == 0 {
		return ""
	}
	return "; " + r.waitingNow()
}

// lastWait says when the last wait was over.
func (r *Report) lastWait() string {
	for _, p := range r.Phases {
		if p.Name == lastWaited {
			return ", the last until " + offset(p.At)
		}
	}
	return ""
}

// dirRows lists the directories of the first two levels, the largest first.
func dirRows(root *dir) (rows []dirRow) {
	for _, a := range root.below {
		rows = append(rows, dirRow{Printable(a.path), a.size, a.read, a.brought, a.files})
		for _, b := range a.below {
			if len(rows) < maxRows && !b.leaf {
				rows = append(rows, dirRow{Printable(b.path), b.size, b.read, b.brought, b.files})
			}
		}
		if len(rows) >= maxRows {
			break
		}
	}
	return rows
}
