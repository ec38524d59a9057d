package kmount

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// backingDevices is where the kernel shows what superblocks read through, a directory for each. The directory of an EROFS superblock that has no block device is called erofs-N, and no number is used
// twice between two boots (super_setup_bdi in fs/super.c).
const backingDevices = "/sys/class/bdi"

// Backing is what an EROFS superblock reads through, by its name in /sys/class/bdi.
type Backing string

// backings lists those of all EROFS superblocks without a block device, none where /sys is not mounted. Whose they are the kernel does not say.
func backings() (list []Backing) {
	names, _ := filepath.Glob(filepath.Join(backingDevices, "erofs-*")) // fails for bad patterns only
	for _, name := range names {
		list = append(list, Backing(filepath.Base(name)))
	}
	return list
}

// appeared lists those that were not among before.
func appeared(before []Backing) []Backing {
	return slices.DeleteFunc(backings(), func(b Backing) bool { return slices.Contains(before, b) })
}

func (b Backing) file() string {
	return filepath.Join(backingDevices, filepath.Base(string(b)), "read_ahead_kb")
}

// ReadAhead is how far the kernel reads beyond what is asked for, in KiB.
func (b Backing) ReadAhead() (int, error) { return readNumber(b.file()) }

// SetReadAhead changes that, for files that are opened from then on.
func (b Backing) SetReadAhead(kib int) error {
	return os.WriteFile(b.file(), []byte(strconv.Itoa(kib)), 0) // there is no such file to be made
}
