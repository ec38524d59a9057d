package report

import (
	"slices"
	"time"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/profile"
)

// Profile names the files in what the kernel asked for. What has no file that is known is left out; of what was asked for more than once the first time counts. The pages are of
// [profile.KindMiss]: the kernel reads ahead, too.
func (t *Tree) Profile(touches []control.Touch) *profile.Profile {
	p := &profile.Profile{}
	seen := make([]ranges, len(t.Files))
	touches = slices.Clone(touches)
	slices.SortStableFunc(touches, func(a, b control.Touch) int { return int(a.At - b.At) })
	for _, touch := range touches {
		for _, piece := range t.At(touch.Blob, touch.Off, touch.Len) {
			from, to := piece.Off/erofs.BlockSize*erofs.BlockSize, (piece.Off+piece.Len+erofs.BlockSize-1)/erofs.BlockSize*erofs.BlockSize
			for _, fresh := range seen[piece.File].without(from, to) {
				p.Entries = append(p.Entries, profile.Entry{
					Path: t.Files[piece.File].Path, Size: t.Files[piece.File].Length, Off: fresh[0], Len: fresh[1] - fresh[0], Time: touch.At.Round(time.Microsecond), Kind: profile.KindMiss,
				})
			}
			seen[piece.File].add(from, to)
		}
	}
	p.Coalesce()
	return p
}

// without returns the parts of an interval that are not in the set.
func (r *ranges) without(from, to int64) (parts [][2]int64) {
	r.join()
	for _, i := range r.list {
		if i[1] <= from {
			continue
		}
		if i[0] >= to {
			break
		}
		if from < i[0] {
			parts = append(parts, [2]int64{from, i[0]})
		}
		from = max(from, i[1])
	}
	if from < to {
		parts = append(parts, [2]int64{from, to})
	}
	return parts
}
