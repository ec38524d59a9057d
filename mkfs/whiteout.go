package mkfs

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// rules say what names and devices that stand for something missing are taken for.
type rules int

const (
	plainTar      rules = iota // files like others
	layerOfStack               // what they hide is gone from the tree, and so are they
	layerByItself              // OCI's markers become those of overlayfs, for a tree that is to be mounted over others
)

// Names that mean something in OCI layers (image-spec, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh." // aufs' own files, which are no part of the image
	whiteoutOpaque = ".wh..wh..opq"
)

// How overlayfs says the same (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"): a character device 0:0, and an
// attribute of a directory.
const (
	overlayXattrs = "trusted.overlay."
	overlayOpaque = overlayXattrs + "opaque"
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

// marker takes in a name that is a marker. It hides what lower layers have, never what its own layer has, wherever in the stream it stands.
func (c *changes) marker(parts []string) error {
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
	dir, err := c.dir(parts[:len(parts)-1])
	switch {
	case err != nil:
		return err
	case opaque:
		dir.opaque = true
	case dir.kids[name] == nil:
		dir.put(name, &node{hides: true})
	default:
		dir.kids[name].hides = true
	}
	return nil
}

// isOverlayWhiteout reports whether an inode is what overlayfs takes for a whiteout. A layer can have it as a member; a container whose root
// is mounted over the layer would not see it.
func isOverlayWhiteout(ino *erofs.Inode) bool {
	return ino != nil && ino.Mode&unix.S_IFMT == unix.S_IFCHR && ino.Rdev == 0
}

// hide takes in a whiteout in the form of overlayfs. Being a member, it also replaces what the tar had there.
func (c *changes) hide(parts []string) error {
	if len(parts) == 0 {
		return errors.New("a whiteout of the whole tree makes no sense")
	}
	dir, err := c.dir(parts[:len(parts)-1])
	if err == nil {
		dir.put(parts[len(parts)-1], &node{hides: true, device: true})
	}
	return err
}

// leaveOutOverlay takes overlayfs' attributes from a member of an image's layer. Container runtimes do not unpack them either: in a tree that
// overlayfs is mounted over, they would let the image's author decide what is seen in place of a file.
func (t *Tree) leaveOutOverlay(m *tarMember) {
	if m.ino == nil {
		return
	}
	kept := m.ino.Xattrs[:0]
	for _, x := range m.ino.Xattrs {
		if strings.HasPrefix(x.Name, overlayXattrs) {
			t.notes.once(x.Name, fmt.Sprintf("extended attribute %q of %q, and of other files that have it, is left out: overlayfs would obey it", x.Name, m.name))
			continue
		}
		kept = append(kept, x)
	}
	m.ino.Xattrs = kept
}

// toOverlay makes of changes a tree that says in the way of overlayfs what they hide. Where nothing of lower layers is seen anyway there must be no
// whiteout: overlayfs lists those in directories that it need not merge.
func (n *node) toOverlay() {
	type visit struct {
		dir    *node
		opaque bool
	}
	for stack := []visit{{n, false}}; len(stack) > 0; {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if v.dir.opaque || v.dir.hides {
			v.opaque = true
			setXattr(v.dir.ino, overlayOpaque, "y")
		}
		for name, kid := range v.dir.kids {
			switch {
			case kid.ino == nil && v.opaque:
				delete(v.dir.kids, name)
			case kid.ino == nil:
				kid.ino = &erofs.Inode{Mode: unix.S_IFCHR}
			case kid.implied:
				kid.ino = impliedDir(v.dir.ino)
				fallthrough
			case kid.isDir():
				stack = append(stack, visit{kid, v.opaque})
			}
		}
	}
}

// setXattr adds or replaces an extended attribute.
func setXattr(ino *erofs.Inode, name, value string) {
	for i := range ino.Xattrs {
		if ino.Xattrs[i].Name == name {
			ino.Xattrs[i].Value = []byte(value)
			return
		}
	}
	ino.Xattrs = append(ino.Xattrs, erofs.Xattr{Name: name, Value: []byte(value)})
}
