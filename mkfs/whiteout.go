package mkfs

import (
	"fmt"
	"strings"

	"github.com/pagein/pagein/erofs"
)

// Names that mean something in OCI layers (image-spec, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh." // aufs' own files, which are no part of the image
	whiteoutOpaque = ".wh..wh..opq"
)

// isMarker reports whether a name says something about layers below, or belongs to aufs, so that it is no file of the tree.
func isMarker(parts []string) bool {
	if len(parts) == 0 {
		return false
	}
	for _, part := range parts[:len(parts)-1] {
		if strings.HasPrefix(part, whiteoutMeta) {
			return true // below a directory of aufs
		}
	}
	return strings.HasPrefix(parts[len(parts)-1], whiteoutPrefix)
}

// whiteout obeys a marker. It hides what lower layers have, never what its own layer has, so the result is the same wherever in the stream it
// stands; but what a hard link or a path through a symbolic link needs must not be hidden before it is used.
func (t *Tree) whiteout(parts []string) error {
	last := parts[len(parts)-1]
	opaque := last == whiteoutOpaque
	for i, part := range parts {
		if strings.HasPrefix(part, whiteoutMeta) && (i < len(parts)-1 || !opaque) {
			return nil // aufs' own
		}
	}
	name := strings.TrimPrefix(last, whiteoutPrefix)
	if !opaque && (name == "" || name == "." || name == "..") {
		return fmt.Errorf("whiteout of %q makes no sense", name)
	}
	path, err := t.walk(parts[:len(parts)-1], true)
	if err != nil {
		return err
	}
	dir := path[len(path)-1]
	touch(path, t.layer)
	if opaque {
		dir.hideKids(t.layer)
	} else if kid := dir.kids[name]; kid != nil && !kid.hide(dir.ino, t.layer) {
		delete(dir.kids, name)
	}
	return nil
}

// hide removes what layers below the given one put at n, in the directory parent, and below it. It reports whether anything is left.
func (n *node) hide(parent *erofs.Inode, layer int32) bool {
	if n.touched < layer {
		return false
	}
	if n.layer < layer {
		// Only entries below it are of this layer: what would be left had the marker come first is a directory made for them.
		n.layer, n.implied = layer, true
	}
	if n.implied {
		n.ino = impliedDir(parent)
	}
	n.hideKids(layer)
	return true
}

func (n *node) hideKids(layer int32) {
	for name, kid := range n.kids {
		if !kid.hide(n.ino, layer) {
			delete(n.kids, name)
		}
	}
}
