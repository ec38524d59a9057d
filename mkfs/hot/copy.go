package hot

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
)

// Frame is the size of a hot blob's frames in bytes. The blob is fetched whole and in order, so it says only how soon what has arrived can be used, and how often a reader who
// is faster than the link waits. Twice the size of other frames halves the waits of a start and takes no longer, and the object gets smaller by one or two in a hundred.
const Frame = 256 << 10

// copyAtOnce is how many bytes are read at a time.
const copyAtOnce = 1 << 20

// Spool holds data until it is compressed, such as a temporary file. What was never written must read as zeros.
type Spool interface {
	io.ReaderAt
	io.WriterAt
}

// Write copies what is hot from the tree's devices and writes the hot blob's object. The spool takes the plan's Size. The plan, what the devices hold, and level decide about every byte.
func (p *Plan) Write(ctx context.Context, devices []Device, spool Spool, object io.Writer, level blob.Level) (*blob.Map, error) {
	if err := p.gather(ctx, devices, spool); err != nil {
		return nil, fmt.Errorf("copy what is hot: %w", err)
	}
	w := blob.NewWriter(ctx, object, blob.WriterOptions{SmallFile: 1, SmallFrame: Frame, LargeFrame: Frame, Level: level}) // no frame is shared
	for off := int64(0); off < p.Size(); off += Frame {
		if _, err := w.Append(io.NewSectionReader(spool, off, Frame), min(Frame, p.Size()-off)); err != nil {
			_, _ = w.Close() // says the same
			return nil, err
		}
	}
	return w.Close()
}

// gather reads the segments in the order in which they lie on their devices, where neighbours are fetched together.
func (p *Plan) gather(ctx context.Context, devices []Device, spool io.WriterAt) error {
	order := slices.Clone(p.segments)
	slices.SortFunc(order, func(a, b segment) int {
		return cmp.Or(cmp.Compare(a.device, b.device), cmp.Compare(a.from, b.from), cmp.Compare(a.block, b.block))
	})
	buf := make([]byte, copyAtOnce)
	for _, s := range order {
		if s.device == 0 || int(s.device) > len(devices) {
			return fmt.Errorf("a file refers to device %d of %d", s.device, len(devices))
		}
		from, to := int64(s.from)*erofs.BlockSize, int64(s.block)*erofs.BlockSize
		for left := s.len; left > 0; {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			part := buf[:min(left, copyAtOnce)]
			n, err := devices[s.device-1].Data.ReadAt(part, from)
			if n < len(part) {
				return fmt.Errorf("read device %d at %d: %w", s.device, from, err)
			}
			if _, err := spool.WriteAt(part, to); err != nil {
				return err
			}
			n64 := int64(n)
			left, from, to = left-n64, from+n64, to+n64
		}
	}
	return nil
}

// Apply has the files lead to the hot blob, which is the device of the given slot, where they are hot.
func (p *Plan) Apply(device uint16) {
	byFile := map[*erofs.Inode][]segment{}
	for _, s := range p.segments {
		byFile[s.file] = append(byFile[s.file], s)
	}
	for n, hot := range byFile {
		slices.SortFunc(hot, func(a, b segment) int { return cmp.Compare(a.off, b.off) })
		n.Extents = overlay(n.Extents, hot, device)
	}
}

// overlay returns a file's extents with what is hot, in order, in the place of what was there.
func overlay(old []erofs.Extent, hot []segment, device uint16) (all []erofs.Extent) {
	add := func(e erofs.Extent) {
		if k := len(all) - 1; k >= 0 {
			last := &all[k]
			if last.Device == e.Device && last.Off+last.Len == e.Off && last.Block+uint64(last.Len)/erofs.BlockSize == e.Block {
				last.Len += e.Len
				return
			}
		}
		all = append(all, e)
	}
	for _, e := range old {
		stop, at := e.Off+e.Len, e.Off
		keep := func(to int64) {
			if to > at {
				add(erofs.Extent{Off: at, Len: to - at, Device: e.Device, Block: e.Block + uint64(at-e.Off)/erofs.BlockSize})
			}
		}
		for len(hot) > 0 && hot[0].off < stop {
			s := hot[0]
			hot = hot[1:]
			keep(s.off)
			at = min(s.off+s.len, stop)
			add(erofs.Extent{Off: s.off, Len: at - s.off, Device: device, Block: s.block})
		}
		keep(stop)
	}
	return all
}

// UUID is that of an image whose data was laid out by the plan, made of the UUID that it had before and of the map of the hot blob.
func (p *Plan) UUID(before [16]byte, m *blob.Map) (id [16]byte) {
	h := sha256.New()
	h.Write(before[:])
	h.Write([]byte(m.ID()))
	var b []byte
	for _, s := range p.segments {
		b = b[:0]
		for _, v := range []uint64{uint64(s.off), uint64(s.len), uint64(s.device), s.from} {
			b = binary.AppendUvarint(b, v)
		}
		h.Write(b)
	}
	copy(id[:], h.Sum(nil))
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // version 8, variant 1 (RFC 9562)
	return id
}
