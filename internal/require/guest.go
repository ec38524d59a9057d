package require

import (
	"os"
	"strconv"
	"testing"
)

// GuestEnv is set in the test guests of package vmtests, to a directory on a disk whose file system cachefiles can use.
const GuestEnv = "PAGEIN_GUEST"

// Guest returns a directory on the guest's disk, or skips the test outside of a test guest. It does so under PAGEIN_REQUIRE too: the run that counts
// is the one that package vmtests makes in its guests.
func Guest(t testing.TB) string {
	t.Helper()
	dir := os.Getenv(GuestEnv)
	if dir == "" {
		t.Skip("runs in the guests of package vmtests")
	}
	return dir
}

// BootEnv is set where package vmtests boots one machine several times, to the number of the boot, from 1. The first boot ends with an orderly shutdown, the second
// with a power cut.
const BootEnv = "PAGEIN_BOOT"

// Boot returns a directory on the machine's disk, where everything is as the last boot left it, and the number of this boot. It skips the test outside of such a machine.
func Boot(t testing.TB) (dir string, boot int) {
	t.Helper()
	boot, err := strconv.Atoi(os.Getenv(BootEnv))
	if err != nil {
		t.Skip("runs in the boots of package vmtests")
	}
	return Guest(t), boot
}
