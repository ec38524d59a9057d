package mkfs

import "fmt"

// merge puts what a tar holds into the tree as its next layer. Markers are obeyed if whiteouts is set.
func (t *Tree) merge(s *scanned, whiteouts bool) error {
	if t.top == nil {
		t.top = newNode(impliedDir(nil), 0)
	}
	t.layer++
	for i := range s.members {
		m := &s.members[i]
		if err := t.apply(m, whiteouts); err != nil {
			return fmt.Errorf("member %q: %w", m.name, err)
		}
	}
	for _, n := range s.notes.all {
		t.notes.once(n.about, n.message)
	}
	return nil
}

// apply puts one member into the tree.
func (t *Tree) apply(m *tarMember, whiteouts bool) error {
	parts, err := splitPath(m.name)
	if err != nil {
		return err
	}
	if whiteouts && isMarker(parts) {
		return t.whiteout(parts)
	}
	if m.ino == nil {
		return t.hardLink(parts, m.link)
	}
	return t.place(parts, m.ino)
}

// hardLink puts a further name of an inode that is in the tree.
func (t *Tree) hardLink(parts []string, target string) error {
	to, err := splitPath(target)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	n, err := t.lookup(to)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	if n.ino.IsDir() {
		return fmt.Errorf("hard link to %q: it is a directory", target)
	}
	return t.place(parts, n.ino)
}
