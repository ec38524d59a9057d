package mkfs

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/pagein/pagein/erofs"
)

// Overrides replace attributes of all inodes. The zero value changes nothing.
type Overrides struct {
	UID, GID   *uint32 // owner and group become this
	UIDOffset  uint32  // is added to all owners, also to UID
	GIDOffset  uint32  // the same for groups
	Mtime      *int64  // the time becomes this second
	NoXattrs   bool    // extended attributes are left out
	Labels     Labeler // gives SELinux labels; nil keeps those of the source
	MountPoint string  // where the tree will be mounted: stands before the names that Labels is asked about
	NoLinks    bool    // each further name of a file becomes a file of its own, with the same data
	NoMarkers  bool    // overlayfs' whiteouts and marks of opaque directories are left out
}

// Labeler knows the SELinux labels of files.
type Labeler interface {
	// Label returns the label of a file that has an absolute path and a mode as in st_mode, or false if it is to have none of its own.
	Label(path string, mode uint32) (label string, ok bool)
}

const (
	labelXattr  = "security.selinux"
	opaqueXattr = "trusted.overlay.opaque"
)

// overrider applies overrides to a finished tree.
type overrider struct {
	Overrides
	seen map[*erofs.Inode]bool // files, which may have several names
}

// named is an inode under one of its names.
type named struct {
	ino  *erofs.Inode
	path string // below the top, with a slash in front; "" for the top
}

func (t *Tree) override(o Overrides) error {
	if o == (Overrides{MountPoint: o.MountPoint}) {
		return nil
	}
	r := overrider{o, map[*erofs.Inode]bool{}}
	if err := r.inode(t.root, ""); err != nil {
		return err
	}
	for stack := []named{{t.root, ""}}; len(stack) > 0; {
		dir := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if o.NoMarkers {
			dir.ino.Entries = slices.DeleteFunc(dir.ino.Entries, func(e erofs.Dirent) bool { return isOverlayWhiteout(e.Inode) })
		}
		for i := range dir.ino.Entries {
			e := &dir.ino.Entries[i]
			path := dir.path + "/" + e.Name
			if r.seen[e.Inode] {
				if !o.NoLinks {
					continue
				}
				apart := *e.Inode // its attributes are overridden already
				apart.Xattrs = slices.Clone(apart.Xattrs)
				e.Inode = &apart
				continue
			}
			if err := r.inode(e.Inode, path); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if e.Inode.IsDir() {
				stack = append(stack, named{e.Inode, path})
			} else {
				r.seen[e.Inode] = true
			}
		}
	}
	return nil
}

// inode overrides the attributes of one inode.
func (r *overrider) inode(n *erofs.Inode, path string) (err error) {
	if n.UID, err = newID(n.UID, r.UID, r.UIDOffset); err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	if n.GID, err = newID(n.GID, r.GID, r.GIDOffset); err != nil {
		return fmt.Errorf("group: %w", err)
	}
	if r.Mtime != nil {
		n.Mtime, n.MtimeNsec = *r.Mtime, 0
	}
	if r.NoXattrs {
		n.Xattrs = nil
	}
	if r.NoMarkers {
		n.Xattrs = withoutXattr(n.Xattrs, opaqueXattr)
	}
	if r.Labels != nil {
		if path == "" && r.MountPoint == "" {
			path = "/"
		}
		if label, ok := r.Labels.Label(r.MountPoint+path, n.Mode); ok {
			n.Xattrs = append(withoutXattr(n.Xattrs, labelXattr), erofs.Xattr{Name: labelXattr, Value: []byte(label)})
		}
	}
	return nil
}

var errID = errors.New("the offset leads beyond the largest number")

// newID is what becomes of an owner or a group.
func newID(id uint32, fixed *uint32, offset uint32) (uint32, error) {
	if fixed != nil {
		id = *fixed
	}
	if id > math.MaxUint32-offset {
		return 0, fmt.Errorf("%d plus %d: %w", id, offset, errID)
	}
	return id + offset, nil
}

func withoutXattr(all []erofs.Xattr, name string) []erofs.Xattr {
	return slices.DeleteFunc(all, func(x erofs.Xattr) bool { return x.Name == name })
}
