package main

import (
	"fmt"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// copyMapped copies from a mapping whose pages may not be had. The kernel's SIGBUS becomes an error.
func copyMapped(into, mapping []byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if what := recover(); what != nil {
			err = fmt.Errorf("read mapped pages: %w: %v", unix.EIO, what)
		}
	}()
	copy(into, mapping)
	return nil
}
