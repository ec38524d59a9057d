package compilertree

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Python is where Debian has Python: the tree of [WriteSystem] has it there, too.
const Python = "/usr/bin/python3"

// libraries is the directory with Python's library, whose name begins as the program's does.
const libraries = "/usr/lib"

// WriteSystem makes the tree of [Write] with Python and its library, and busybox, besides: about 95 MB. Needed is Debian's Python, too.
func WriteSystem(ctx context.Context, dir, busybox string) error {
	real, err := filepath.EvalSymlinks(Python)
	if err != nil {
		return fmt.Errorf("find Python: %w", err)
	}
	if err := Write(ctx, dir, real, busybox); err != nil {
		return err
	}
	name := filepath.Base(real) // with the version
	library := filepath.Join(dir, libraries, name)
	if _, err := output(ctx, "cp", "-a", filepath.Join(libraries, name), library); err != nil {
		return fmt.Errorf("copy Python's library: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(library, "config-"+strings.TrimPrefix(name, "python")+"-x86_64-linux-gnu")); err != nil { // for who builds Python in
		return err
	}
	return os.Symlink(name, filepath.Join(dir, Python))
}
