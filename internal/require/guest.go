package require

import (
	"os"
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
