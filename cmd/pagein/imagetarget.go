package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/report"
)

// findImage returns the image that the daemon serves and that a user means: by a container's ID, a directory at or below a mount of it or of a container that it runs in, its reference,
// or its own ID; IDs may be cut short.
func findImage(s control.Status, what string) (control.Image, error) {
	var found []control.Image
	add := func(list []control.Image) {
		for _, i := range list {
			if !slices.ContainsFunc(found, func(f control.Image) bool { return f.ID == i.ID }) {
				found = append(found, i)
			}
		}
	}
	matching := func(match func(control.Image) bool) {
		add(slices.DeleteFunc(slices.Clone(s.Images), func(i control.Image) bool { return !match(i) }))
	}
	overlays, err := kmount.Overlays()
	if err != nil {
		return control.Image{}, err
	}
	if isDirectory(what) {
		dir, err := filepath.Abs(what)
		if err != nil {
			return control.Image{}, err
		}
		if resolved, err := filepath.EvalSymlinks(dir); err == nil {
			dir = resolved
		}
		matching(func(i control.Image) bool {
			return slices.ContainsFunc(i.Targets, func(t string) bool { return within(dir, t) })
		})
		for _, o := range overlays {
			if len(found) == 0 && within(dir, o.Target) {
				add(lowerImages(s, o))
			}
		}
	} else {
		byID := func(match func(id string) bool) {
			matching(func(i control.Image) bool { return match(i.ID) })
			for _, o := range overlays {
				if slices.ContainsFunc(containerIDs(o.Target), match) {
					add(lowerImages(s, o))
				}
			}
		}
		matching(func(i control.Image) bool { return i.Ref == what || refNames(i.Ref, what) })
		byID(func(id string) bool { return id == what })
		if len(found) == 0 && len(what) >= minID {
			byID(func(id string) bool { return strings.HasPrefix(id, what) })
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return control.Image{}, fmt.Errorf("%q is no container, mount, reference or ID of an image that pageind serves: see pagein status", what)
	}
	var names []string
	for _, i := range found {
		names = append(names, fmt.Sprintf("%.12s (%s)", i.ID, i.Ref))
	}
	return control.Image{}, fmt.Errorf("%q means several images: name one of %s", what, strings.Join(names, ", "))
}

// isDirectory reports whether a word names a directory. A path that is none may have been one: of an image that is lost.
func isDirectory(what string) bool {
	st, err := os.Stat(what)
	return filepath.IsAbs(what) || err == nil && st.IsDir()
}

// minID is how much of an ID must be given, if it is not all of it.
const minID = 4

// containerIDs are what of the directory that a container runs in may be its ID: runtimes call it .../ID/rootfs, .../ID/merged or .../ID.
func containerIDs(target string) (ids []string) {
	parts := strings.FieldsFunc(target, func(c rune) bool { return c == '/' })
	return parts[max(len(parts)-2, 0):]
}

// within reports whether a path is a directory, or below it.
func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// refNames reports whether what is a reference without the digest that was added when it was resolved.
func refNames(ref, what string) bool {
	name, _, ok := strings.Cut(ref, "@")
	return ok && name == what
}

// lowerImages returns the images that an overlay shows.
func lowerImages(s control.Status, o kmount.Overlay) (found []control.Image) {
	for _, i := range s.Images {
		if slices.ContainsFunc(i.Targets, func(t string) bool { return o.Shows(t) }) {
			found = append(found, i)
		}
	}
	return found
}

// readTree reads a metadata image in the daemon's store.
func readTree(ctx context.Context, path string) (*report.Tree, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the metadata image: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the metadata image: %w", err)
	}
	meta, err := erofs.Open(f, st.Size())
	if err != nil {
		return nil, fmt.Errorf("metadata image %s: %w", path, err)
	}
	return report.ReadTree(ctx, meta)
}
