package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/registry"
)

// withHint adds to an error of a command what its operands could be meant to be: a reference without "dir:" and the like is one of a registry, also where there
// is a file with that name.
func withHint(operands []string, err error) error {
	if err == nil {
		return nil
	}
	for _, s := range operands {
		ref, parseErr := oci.ParseRef(s)
		blamed := strconv.Quote(s)
		if parseErr == nil {
			blamed = ref.String()
		}
		if parseErr == nil && ref.Kind != oci.Registry || !strings.Contains(err.Error(), blamed) {
			continue
		}
		if hint := fileHint(s); hint != "" {
			return fmt.Errorf("%w; %s", err, hint)
		}
	}
	return err
}

// withOption names the option that has a registry without TLS be asked, if it was not: by this program, or by pageind for it, whose errors are text.
func withOption(option string, err error) error {
	if !strings.Contains(err.Error(), registry.ErrPlainHTTP.Error()) {
		return err
	}
	return fmt.Errorf("%w: use %s", err, option)
}

// fileHint says how to write what is a file or a directory here, or nothing.
func fileHint(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	if !info.IsDir() {
		return fmt.Sprintf("%s is a file: write tar:%s, or erofs:%s", path, path, path)
	}
	if _, err := os.Stat(filepath.Join(path, ocispec.ImageLayoutFile)); err == nil {
		return fmt.Sprintf("%s is an image layout: write oci:%s", path, path)
	}
	return fmt.Sprintf("%s is a directory: write dir:%s", path, path)
}
