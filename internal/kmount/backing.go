package kmount

import (
	"fmt"
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

// Backings lists those of all EROFS superblocks without a block device. Whose they are the kernel does not say.
func Backings() ([]Backing, error) {
	names, err := filepath.Glob(filepath.Join(backingDevices, "erofs-*"))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", backingDevices, err)
	}
	var list []Backing
	for _, name := range names {
		list = append(list, Backing(filepath.Base(name)))
	}
	return list, nil
}

// Appeared returns the one of now that was not among before, if it is only one: the superblock that was made in between has it. Somebody else may have made another one.
func Appeared(before, now []Backing) (Backing, bool) {
	now = slices.DeleteFunc(slices.Clone(now), func(b Backing) bool { return slices.Contains(before, b) })
	if len(now) != 1 {
		return "", false
	}
	return now[0], true
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
