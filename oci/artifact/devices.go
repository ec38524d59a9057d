package artifact

import (
	"fmt"

	"github.com/pagein/pagein/blob"
)

// CheckDevices makes sure that the metadata image wants the very blobs that the artifact lists: n is how many devices its table has, device says
// of the one with index i, 0 ≤ i < n, its tag and its length in bytes. What device tags name, an image is sure to get; without this check, a config could pass the wrong
// blob under a right image.
func (a *Artifact) CheckDevices(n int, device func(i int) (tag string, size int64)) error {
	if n != len(a.Blobs) {
		return fmt.Errorf("metadata image has %d devices, the config lists %d blobs", n, len(a.Blobs))
	}
	for i, b := range a.Blobs {
		if tag, size := device(i); tag != b.ID || size != b.Size {
			return fmt.Errorf("device %d is %q of %d blocks, the config says blob %s of %d bytes", i+1, tag, size/blob.BlockSize, b.ID, b.Size)
		}
	}
	return nil
}
