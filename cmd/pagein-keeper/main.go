// Command pagein-keeper keeps the file descriptors that pagein's mounts depend on in a process of its own. See package keeper.
package main

import (
	"os"

	"github.com/pagein/pagein/node/keeper"
)

func main() {
	os.Exit(keeper.Main(os.Args[1:], os.Stderr))
}
