package mkfs

import "fmt"

// merge puts what a tar holds into the tree as its next layer.
func (t *Tree) merge(s *scanned) error {
	t.layer++
	c, err := t.changes(s)
	switch {
	case err != nil:
		return err
	case s.rules == layerByItself:
		c.top.toOverlay()
		t.top = c.top
		return nil
	case t.top == nil:
		t.top = &node{ino: c.top.ino, implied: true}
	}
	t.top.merge(c.top)
	return nil
}

// changes gathers what a tar says.
func (t *Tree) changes(s *scanned) (*changes, error) {
	c := &changes{top: &node{ino: impliedDir(nil), implied: true}, lower: t.top, implied: &t.implied}
	for i := range s.members {
		m := &s.members[i]
		if err := t.apply(c, m, s.rules); err != nil {
			return nil, fmt.Errorf("member %q: %w", m.name, err)
		}
	}
	for _, n := range s.notes.all {
		t.notes.once(n.about, n.message)
	}
	return c, nil
}

// apply adds one member to the changes.
func (t *Tree) apply(c *changes, m *tarMember, r rules) error {
	parts, err := splitPath(m.name)
	if err != nil {
		return err
	}
	if r != plainTar && isMarker(parts) {
		return c.marker(parts)
	}
	if r == layerOfStack {
		t.leaveOutOverlay(m)
		if isOverlayWhiteout(m.ino) {
			return c.hide(parts)
		}
	}
	if m.ino == nil {
		return c.hardLink(parts, m.link)
	}
	return c.place(parts, m.ino)
}

// merge puts changes into a directory of the tree and all below it, where nothing is left that is no file. The nodes of the changes become part of the
// tree.
func (n *node) merge(changes *node) {
	type pair struct{ dir, changes *node }
	for stack := []pair{{n, changes}}; len(stack) > 0; {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if !p.changes.implied {
			p.dir.ino, p.dir.implied = p.changes.ino, false
		}
		if p.changes.opaque {
			p.dir.kids = nil
		}
		for name, change := range p.changes.kids {
			if change.hides {
				delete(p.dir.kids, name)
			}
			switch old := p.dir.kids[name]; {
			case change.ino == nil:
			case !change.isDir():
				p.dir.put(name, &node{ino: change.ino})
			case old != nil && old.isDir():
				stack = append(stack, pair{old, change})
			default:
				made := &node{ino: impliedDir(p.dir.ino), implied: true}
				p.dir.put(name, made)
				stack = append(stack, pair{made, change})
			}
		}
	}
}
