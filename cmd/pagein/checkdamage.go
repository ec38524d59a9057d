package main

import (
	"fmt"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/oci/view"
)

// maxFiles bounds how many files are named for one damaged frame.
const maxFiles = 5

// damage is a frame that does not verify: a range of a device.
type damage struct {
	device  uint16
	off, n  int64
	problem checkProblem
}

func newDamage(v *view.View, p view.Problem) damage {
	d := damage{device: uint16(p.Blob + 1), problem: checkProblem{Part: string(p.Part), What: p.Err.Error()}}
	d.problem.Where = fmt.Sprintf("%d of blob %d", p.Frame, p.Blob+1)
	if m, err := v.Map(p.Blob); err == nil {
		f := m.Frame(p.Frame)
		d.off, d.n = f.Off, int64(f.Len)
		d.problem.Where += fmt.Sprintf(" (%s, bytes %d to %d)", m.ID(), f.Off, f.Off+int64(f.Len))
	}
	return d
}

// affected reports the damaged frames, with files that lie in them where the tree, which may be nil, knows some.
func (r *checkReport) affected(tree *erofs.FS) {
	if len(r.damaged) > 0 && tree != nil {
		if root, err := tree.Root(); err == nil {
			// What is wrong with the tree is reported elsewhere.
			_ = erofs.Visit(root, erofs.Visitor{Enter: r.affectedFile})
		}
	}
	for _, d := range r.damaged {
		r.problem(d.problem)
	}
	r.damaged = nil
}

// affectedFile notes in which damaged frames a file lies.
func (r *checkReport) affectedFile(path string, _ int, _ erofs.Entry, h erofs.Handle, err error) error {
	if err != nil || r.c.Err() != nil {
		return r.c.Err()
	}
	extents, err := h.Extents()
	if err != nil {
		return nil // no regular file, or one that is reported elsewhere
	}
	for i := range r.damaged {
		d := &r.damaged[i]
		if len(d.problem.Files) < maxFiles && d.touches(extents) {
			d.problem.Files = append(d.problem.Files, quoteName("/"+path))
		}
	}
	return nil
}

func (d *damage) touches(extents []erofs.Extent) bool {
	for _, e := range extents {
		start := int64(e.Block) * erofs.BlockSize
		if e.Device == d.device && start < d.off+d.n && d.off < start+e.Len {
			return true
		}
	}
	return false
}
