package view

import "io"

// Blob returns the bytes of blob i, 0 ≤ i < len(Artifact.Blobs), which are fetched and verified when they are read. It may be read concurrently.
func (v *View) Blob(i int) io.ReaderAt { return v.devices[i] }
