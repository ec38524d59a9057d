// Package inputs makes what the benchmarks and the demo work on: trees, streams and images that are the same in every run. What takes long to make
// is kept in the cache directory: a Debian root of 0.5 GB, image A of 0.9 GB and an image of programs of 0.3 GB.
package inputs

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/internal/cache"
)

// kind of cache.Dir.
const kind = "bench"

// packages are in the Debian root besides those of minbase.
const packages = "python3,gcc"

// Debian returns a directory with Debian 12 as debootstrap leaves it: minbase, python3 and gcc, 480 MB, 84 of them packages in apt's cache. It comes from the
// archive that this machine's apt uses, if that has Debian 12.
func Debian(ctx context.Context, log func(format string, args ...any)) (string, error) {
	dir, err := cache.Dir(kind)
	if err != nil {
		return "", err
	}
	path, err := cache.Get(ctx, dir, "debian-"+suite+"-"+runtime.GOARCH, func(work string) error { return debootstrap(ctx, work, packages, log) })
	if err != nil {
		return "", fmt.Errorf("make a Debian root: %w", err)
	}
	return path, cache.Prune(dir, "")
}

// suite is Debian 12's name.
const suite = "bookworm"

// debootstrap makes a Debian root of minbase and more packages.
func debootstrap(ctx context.Context, root, packages string, log func(format string, args ...any)) error {
	log("inputs: debootstrap of Debian's %s with %s", suite, packages)
	mirrors, err := lab.Output(lab.Command(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Codename: "+suite, "Component: main"))
	if err != nil {
		return err
	}
	args := []string{"--variant=minbase", "--include=" + packages, suite, root}
	if mirror, _, _ := strings.Cut(string(mirrors), "\n"); mirror != "" {
		args = append(args, mirror)
	}
	_, err = lab.Output(lab.Command(ctx, "debootstrap", args...))
	return err
}

// Tar returns a layer of everything below dir but what the names in exclude, relative to dir, match as tar's --exclude does.
func Tar(dir string, exclude ...string) Layer {
	args := []string{"--sort=name", "--numeric-owner", "--format=posix", "--pax-option=delete=atime,delete=ctime", "--xattrs", "--anchored", "-C", dir}
	for _, name := range exclude {
		args = append(args, "--exclude=./"+name)
	}
	return Command("tar", append(args, "-cf", "-", ".")...)
}

// Goroot returns the directory of the machine's Go toolchain.
func Goroot(ctx context.Context) (string, error) {
	out, err := lab.Output(lab.Command(ctx, "go", "env", "GOROOT"))
	return strings.TrimSpace(string(out)), err
}

// Census counts the names below dir, and their bytes. The directory itself has none.
func Census(dir string) (inodes, nameBytes int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		inodes++
		if path != dir {
			nameBytes += int64(len(d.Name()))
		}
		return err
	})
	return inodes, nameBytes, err
}
