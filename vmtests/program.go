package vmtests

import (
	"context"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// loaded matches a line of ldd that names a file: "NAME => /PATH (0x…)", or "/PATH (0x…)".
var loaded = regexp.MustCompile(`(?m)(/\S+) \(0x[0-9a-f]+\)$`)

// Programs returns what must be in a guest for programs of the host to run there: each in /usr/sbin, and the shared libraries that they are linked with where they are on the host.
// It has the form of [Job.Files].
func Programs(ctx context.Context, names ...string) (map[string]string, error) {
	files := make(map[string]string)
	for _, name := range names {
		host, err := find(name)
		if err != nil {
			return nil, err
		}
		libraries, err := sharedLibraries(ctx, host)
		if err != nil {
			return nil, err
		}
		maps.Copy(files, libraries)
		real, err := filepath.EvalSymlinks(host)
		if err != nil {
			return nil, err
		}
		files[path.Join("/usr/sbin", name)] = real
	}
	return files, nil
}

// sharedLibraries finds the files that a program is linked with, none if it is static.
func sharedLibraries(ctx context.Context, program string) (map[string]string, error) {
	text, err := output(ctx, "", "ldd", program)
	if err != nil {
		if strings.Contains(err.Error(), "not a dynamic executable") {
			return nil, nil
		}
		return nil, err
	}
	files := make(map[string]string)
	for _, m := range loaded.FindAllStringSubmatch(text, -1) {
		real, err := filepath.EvalSymlinks(m[1])
		if err != nil {
			return nil, err
		}
		files[m[1]] = real
	}
	return files, nil
}
