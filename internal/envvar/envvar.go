// Package envvar is what programs take from their environment. An empty variable counts as one that is not set, as is usual.
package envvar

import (
	"os"
	"slices"
)

// Usable leaves out the names of variables that are set to nothing, which a command line's library would take for a value.
func Usable(names ...string) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		value, set := os.LookupEnv(name)
		return set && value == ""
	})
}
