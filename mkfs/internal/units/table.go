package units

import "sync"

// table knows the distinct units of one kind.
type table struct {
	mu    sync.Mutex
	ids   map[[32]byte]ID
	units []Unit
}

// claim returns the ID of the unit with a digest, and whether it is new: then it is for the caller to store it and to call set.
func (t *table) claim(digest [32]byte) (id ID, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id, ok := t.ids[digest]; ok {
		return id, false
	}
	if t.ids == nil {
		t.ids = map[[32]byte]ID{}
	}
	id = ID(len(t.units))
	t.ids[digest] = id
	t.units = append(t.units, Unit{Digest: digest})
	return id, true
}

func (t *table) set(id ID, u Unit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.units[id] = u
}

func (t *table) get(id ID) Unit {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.units[id]
}
