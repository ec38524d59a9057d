package mkfs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/pagein/pagein/erofs"
)

// Identify is [Tree.Summarize] with a UUID that depends on the contents of all files too: on where they lie on which devices, and these are named by digests.
func (p *Packed) Identify(devices []erofs.Device) (Summary, error) {
	s := p.Summarize()
	h := sha256.New()
	h.Write(s.UUID[:])
	b := binary.AppendUvarint(nil, uint64(len(devices)))
	for _, d := range devices {
		b = append(binary.AppendUvarint(b, uint64(len(d.Tag))), d.Tag...)
	}
	h.Write(b)
	data, err := make([]byte, erofs.BlockSize), error(nil)
	p.each(func(_ string, n *erofs.Inode) {
		if !n.IsRegular() || err != nil {
			return
		}
		b = binary.AppendUvarint(b[:0], uint64(len(n.Extents)))
		for _, e := range n.Extents {
			for _, v := range []uint64{uint64(e.Off), uint64(e.Len), uint64(e.Device), e.Block} {
				b = binary.AppendUvarint(b, v)
			}
		}
		h.Write(b)
		if n.Inline.Len > 0 {
			_, err = p.InlineData().ReadAt(data[:n.Inline.Len], n.Inline.Off)
			h.Write(data[:n.Inline.Len])
		}
	})
	if err != nil {
		return Summary{}, fmt.Errorf("derive UUID: %w", err)
	}
	s.UUID = makeUUID(h.Sum(nil))
	return s, nil
}
