package snapshotter

import (
	"path/filepath"
	"strings"
)

// Name is what containerd called an image when it pulled it, by the directory on which the image is mounted, whose path has no symbolic links: "" if that is of no snapshot here, or containerd
// did not say. Of an image that has several names it is the one by which its topmost layer was asked for first.
func (s *Snapshotter) Name(target string) string {
	root, err := filepath.EvalSymlinks(s.root)
	if err != nil {
		return ""
	}
	below, ok := strings.CutPrefix(target, filepath.Join(root, "snapshots")+"/")
	id, dir := filepath.Split(below)
	if id = filepath.Clean(id); !ok || dir != "fs" || filepath.Base(id) != id {
		return ""
	}
	n, err := s.readNote(id)
	if err != nil {
		s.log.Debug("name of a mounted image is not known", "target", target, "err", err)
	}
	if n == nil {
		return ""
	}
	return n.Name
}
