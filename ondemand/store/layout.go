package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pagein/pagein/internal/atomicfile"
)

// The layout's version is a line of text in the file "version". Layout 1 had presence records of another form and no others.
const (
	layoutVersion = "pagein store 2\n"
	layoutBefore  = "pagein store 1\n"
)

// directories are what is below the root.
var directories = [...]string{"meta", "maps", "blobs", "cachefiles", "state"}

const recordSuffix = ".present"

// layOut makes the directory one of this layout, or says why it cannot.
func (s *Store) layOut() error {
	version, err := os.ReadFile(s.path("version"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch text := string(version); text {
	case "", layoutVersion, layoutBefore:
	default:
		return fmt.Errorf("its layout is %q, this version of pagein knows %q: use the version that made it, or an empty directory",
			strings.TrimSpace(text), strings.TrimSpace(layoutVersion))
	}
	for _, d := range directories {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return err
		}
		// Whoever made it, what is in it is for nobody else to read.
		if err := os.Chmod(s.path(d), 0o700); err != nil {
			return err
		}
	}
	if string(version) == layoutVersion {
		return nil
	}
	// Nobody can tell what the blob files of an earlier layout hold: it is fetched again. Metas and maps stay.
	if err := s.removeAll("blobs/*"+recordSuffix, "meta/*.tmp", "maps/*.tmp", "state/*.tmp", "*.tmp"); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(s.BlobDir()); err != nil {
		return err
	}
	return replace(s.path("version"), []byte(layoutVersion), true)
}

// probes are the files with which transports find out, in BlobDir, what the kernel can do.
const probes = ".probe-*"

// sweep removes what an interrupted write or probe left behind.
func (s *Store) sweep() error {
	for _, d := range []string{"", "meta", "maps", "blobs", "state"} {
		if err := atomicfile.Sweep(s.path(d)); err != nil {
			return err
		}
	}
	return s.removeAll("blobs/" + probes)
}

// removeAll removes the files below the root that match one of the patterns.
func (s *Store) removeAll(patterns ...string) error {
	for _, pattern := range patterns {
		found, err := filepath.Glob(s.path(pattern))
		if err != nil {
			return err
		}
		for _, f := range found {
			if err := os.Remove(f); err != nil {
				return err
			}
		}
	}
	return nil
}
