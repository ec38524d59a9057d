package mkfs

// Known finds units, small files and pieces of larger ones, that blobs of earlier conversions hold, so that they need not be stored again.
type Known interface {
	// Find returns a place of size bytes, whole blocks, that have the SHA-256 digest: the number of a blob, from 0, and the block at which they begin. The same
	// question always gets the same answer. One goroutine asks at a time.
	Find(digest [32]byte, size int64) (blob int, block uint64, ok bool)
}
