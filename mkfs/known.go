package mkfs

// Unit is a piece of file data that is stored, shared and found as a whole: a small file, or a piece of a larger one. Its bytes are whole blocks, the last one
// padded with zeros, and Digest is their SHA-256. A piece of a larger file is a frame, so Digest is what the blob's map says of it.
type Unit struct {
	Digest [32]byte
	Size   int64  // bytes, a positive multiple of erofs.BlockSize
	Block  uint64 // of the blob, at which the unit begins
}

// Known finds units that blobs of earlier conversions hold, so that they need not be stored again.
type Known interface {
	// Find returns a place of the bytes with this SHA-256 and length: the number of a blob, from 0, and the block at which they begin. The same
	// question always gets the same answer. One goroutine asks at a time.
	Find(digest [32]byte, size int64) (blob int, block uint64, ok bool)
}
