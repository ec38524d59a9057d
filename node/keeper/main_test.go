package keeper

import (
	"os"
	"testing"

	"github.com/pagein/pagein/internal/kmount"
)

// TestMain lets the test binary be a keeper, a daemon that is to be killed, a process that inherits descriptors, and kmount's child.
func TestMain(m *testing.M) {
	kmount.Init()
	switch os.Args[0] {
	case programName:
		os.Exit(Main(os.Args[1:], "test", os.Stdout, os.Stderr))
	case testDaemonName:
		os.Exit(testDaemon(os.Args[1], os.Args[2]))
	case testHeirName:
		os.Exit(testHeir())
	}
	os.Exit(m.Run())
}
