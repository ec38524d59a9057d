// Command pagein-keeper keeps the file descriptors that pagein's mounts depend on in a process of its own. See package keeper.
package main

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/privileges"
	"github.com/pagein/pagein/node/keeper"
)

// version is set by the linker.
var version = "unknown"

func main() {
	// Kept is what locks memory that is yet to be had, and hands back more descriptors than the limit on open files. A keeper that pageind has started cannot take the rest from
	// executables, as pageind has given up the means: but it executes none.
	_ = privileges.Drop(unix.CAP_IPC_LOCK, unix.CAP_SYS_RESOURCE)
	os.Exit(keeper.Main(os.Args[1:], version, os.Stdout, os.Stderr))
}
