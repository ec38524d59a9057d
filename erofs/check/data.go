package check

import (
	"fmt"

	"github.com/pagein/pagein/erofs"
)

// data checks that all of a file has a place.
func (c *checker) data(path string, h erofs.Handle, st erofs.Stat) {
	extents, err := h.Extents()
	if err != nil {
		c.failed(path, err)
		return
	}
	end := int64(0)
	for _, e := range extents {
		if err := c.extent(e); err != nil {
			c.problem(path, fmt.Errorf("bytes %d to %d: %w", e.Off, e.Off+e.Len, err))
		}
		c.stats.Mapped += e.Len
		end = e.Off + e.Len
	}
	if end < st.Size { // a hole, or inline data, for which no device is read
		if _, err := h.ReadAt(make([]byte, 1), st.Size-1); err != nil {
			c.failed(path, err)
		}
	}
}

// extent checks that blocks exist. A device that does not say how long it is, as of mkfs.erofs 1.5, has all blocks.
func (c *checker) extent(e erofs.Extent) error {
	blocks, name := c.super.Blocks, "the image"
	if e.Device > 0 {
		if int(e.Device) > len(c.super.Devices) {
			return fmt.Errorf("they are on device %d of %d", e.Device, len(c.super.Devices))
		}
		d := c.super.Devices[e.Device-1]
		if blocks, name = d.Blocks, fmt.Sprintf("device %d", e.Device); blocks == 0 {
			return nil
		}
	}
	size := uint64(c.super.BlockSize)
	end := e.Block + (uint64(e.Len)+size-1)/size
	if shared := e.Device == 0 && len(c.super.Devices) > 0; end > blocks && !shared { // devices may share the image's address space

		return fmt.Errorf("they end at block %d of %s, which has %d", end, name, blocks)
	}
	return nil
}
