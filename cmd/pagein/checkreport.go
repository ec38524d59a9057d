package main

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/erofs/check"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/view"
)

// maxListed bounds how many problems are kept, and how many differences are listed in JSON: a damaged image can have millions.
const maxListed = 1000

// checkReport is what check answers.
type checkReport struct {
	Reference   string           `json:"reference"`
	OK          bool             `json:"ok"`
	Artifact    *checkedArtifact `json:"artifact,omitempty"`
	Tree        *checkedTree     `json:"tree,omitempty"`
	Problems    int64            `json:"problems"`
	ProblemList []checkProblem   `json:"problemList,omitempty"` // the first thousand
	Against     string           `json:"against,omitempty"`
	Differences int64            `json:"differences"`
	DiffList    []jsonDifference `json:"differenceList,omitempty"` // the first thousand
	Seconds     float64          `json:"seconds"`

	c        *cli.Context
	progress *progressLine
	meter    *meter
	started  time.Time
	damaged  []damage
	unread   int64 // files that could not be compared
}

// checkedArtifact says what of an artifact is as it must be. Sizes are in bytes.
type checkedArtifact struct {
	Digest      string `json:"digest"`
	Blobs       int    `json:"blobs"`
	Objects     int    `json:"objects"`
	ObjectBytes int64  `json:"objectBytes"`
	UnusedBytes int64  `json:"unusedBytes"` // of the objects: in no frame of this artifact
	Frames      int    `json:"frames"`
	FrameBytes  int64  `json:"frameBytes"` // decoded
}

// checkedTree says what is in the file system. Sizes are in bytes.
type checkedTree struct {
	Inodes      uint64 `json:"inodes"`
	Names       uint64 `json:"names"`
	Directories uint64 `json:"directories"`
	Files       uint64 `json:"files"`
	Symlinks    uint64 `json:"symlinks"`
	Special     uint64 `json:"special"`
	Xattrs      uint64 `json:"xattrs"`
	Bytes       int64  `json:"bytes"`
	Mapped      int64  `json:"mapped"`
	Digests     uint64 `json:"digests"` // content digests that are right
}

// checkProblem is one thing that is wrong.
type checkProblem struct {
	Part  string   `json:"part"`  // artifact (its manifest or config), image, meta, map, index, object, frame, or tree
	Where string   `json:"where"` // which of them
	What  string   `json:"what"`
	Files []string `json:"files,omitempty"` // some of those that lie in a damaged frame
}

func newCheckReport(c *cli.Context, ref oci.Ref) *checkReport {
	return &checkReport{
		Reference: ref.String(), c: c, progress: newProgressLine(c.App.ErrWriter, c.Bool("quiet")), meter: newMeter(), started: time.Now(),
	}
}

func (r *checkReport) showProgress(done, total int64) {
	r.progress.show(func() string { return "verified " + r.meter.text(done, total) })
}

// problem takes note of a problem, and prints it unless the answer is to be JSON.
func (r *checkReport) problem(p checkProblem) {
	r.Problems++
	if len(r.ProblemList) == maxListed {
		return
	}
	r.ProblemList = append(r.ProblemList, p)
	if r.c.Bool("json") {
		return
	}
	r.progress.clear()
	fmt.Fprintf(r.c.App.Writer, "%s %s: %s\n", p.Part, p.Where, p.What)
	for _, f := range p.Files {
		fmt.Fprintf(r.c.App.Writer, "  %s\n", f)
	}
}

// artifactProblem translates a problem of an artifact. Damaged frames wait until it can be said which files lie in them.
func (r *checkReport) artifactProblem(v *view.View, p view.Problem) {
	switch p.Part {
	case view.PartFrame:
		if len(r.damaged) < maxListed {
			r.damaged = append(r.damaged, newDamage(v, p))
		} else {
			r.Problems++
		}
	case view.PartMap, view.PartIndex:
		r.problem(checkProblem{Part: string(p.Part), Where: fmt.Sprintf("of blob %d", p.Blob+1), What: p.Err.Error()})
	case view.PartMeta:
		r.problem(checkProblem{Part: string(p.Part), Where: v.Artifact.Meta.Digest.String(), What: p.Err.Error()})
	default:
		r.problem(checkProblem{Part: string(p.Part), Where: p.Object, What: p.Err.Error()})
	}
}

func (r *checkReport) setArtifact(v *view.View, x view.Verified) {
	r.Artifact = &checkedArtifact{
		Digest: v.Artifact.Descriptor.Digest.String(), Blobs: len(v.Artifact.Blobs), Objects: x.Objects, ObjectBytes: x.ObjectBytes,
		UnusedBytes: x.UnusedBytes, Frames: x.Frames, FrameBytes: x.FrameBytes,
	}
}

func (r *checkReport) setTree(x check.Stats) {
	r.Tree = &checkedTree{
		Inodes: x.Inodes, Names: x.Names, Directories: x.Directories, Files: x.Files, Symlinks: x.Symlinks, Special: x.Special, Xattrs: x.Xattrs,
		Bytes: x.Bytes, Mapped: x.Mapped,
	}
}

// end prints the answer, and is an error if something is wrong.
func (r *checkReport) end() error {
	r.OK = r.Problems == 0 && r.Differences == 0 && r.unread == 0
	r.Seconds = time.Since(r.started).Seconds()
	if r.c.Bool("json") {
		if err := printJSON(r.c, r); err != nil {
			return err
		}
	} else if err := r.print(); err != nil {
		return err
	}
	switch {
	case r.OK:
		return nil
	case r.Against == "":
		return fmt.Errorf("check %s: %s", r.Reference, count(r.Problems, "problem"))
	}
	return fmt.Errorf("check %s: %s, %s from %s, %s that could not be compared",
		r.Reference, count(r.Problems, "problem"), count(r.Differences, "difference"), r.Against, count(r.unread, "file"))
}

// print says what was verified, if all is well; the rest was said.
func (r *checkReport) print() error {
	if r.c.Bool("quiet") || !r.OK {
		return nil
	}
	out := r.c.App.Writer
	if a := r.Artifact; a != nil {
		fmt.Fprintf(out, "artifact %s: %s, %s and %s verified\n", a.Digest, count(int64(a.Blobs), "blob"),
			count(int64(a.Frames), "frame")+" of "+size(a.FrameBytes), count(int64(a.Objects), "object")+" of "+size(a.ObjectBytes))
	}
	t := r.Tree
	fmt.Fprintf(out, "tree: %s inodes, %s names, %s files of %s, %s extended attributes\n", humanize.Comma(int64(t.Inodes)), humanize.Comma(int64(t.Names)),
		humanize.Comma(int64(t.Files)), size(t.Bytes), humanize.Comma(int64(t.Xattrs)))
	if r.Against != "" {
		fmt.Fprintf(out, "equal to %s\n", r.Against)
	}
	_, err := fmt.Fprintf(out, "%s is sound (%s)\n", r.Reference, time.Duration(r.Seconds*float64(time.Second)).Round(time.Millisecond))
	return err
}
