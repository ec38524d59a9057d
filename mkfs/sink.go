package mkfs

import "io"

// Ref stands for data that a [Sink] took. Only that sink can interpret it.
type Ref uint64

// Sink stores file data in blocks of erofs.BlockSize bytes.
type Sink interface {
	// Append stores the next size bytes of r, size > 0, in consecutive blocks, the last one padded with zeros. It reads nothing beyond.
	Append(r io.Reader, size int64) (Ref, error)
	// Place returns where data lies: the device's number (0 is the image itself) and the first block. It is called after the sink was
	// closed.
	Place(Ref) (device uint16, block uint64)
}
