package inputs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/internal/cache"
)

// morePackages are in [Programs] besides those of [Debian].
const morePackages = "libc6-dev,nodejs,rclone"

// Programs returns an OCI layout with an image of one layer, Debian 12 with programs that start in different ways: python3 reads many small files, gcc runs other programs, nodejs
// maps large libraries, and rclone is a compiled program of 55 MB.
func Programs(ctx context.Context, log func(format string, args ...any)) (string, error) {
	dir, err := cache.Dir(kind)
	if err != nil {
		return "", err
	}
	path, err := cache.Get(ctx, dir, "programs-1", func(work string) error {
		root := filepath.Join(work, "root")
		defer os.RemoveAll(root)
		if err := debootstrap(ctx, root, packages+","+morePackages, log); err != nil {
			return err
		}
		log("inputs: compressing the image of programs")
		size, err := WriteImage(ctx, work, v1.ImageConfig{Cmd: []string{"/bin/bash"}}, Tar(root, "var/cache/apt/archives/*.deb"))
		log("inputs: the image of programs has %.1f MB of layers", float64(size)/1e6)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("make the image of programs: %w", err)
	}
	return path, nil
}
