package units

import "sync"

// table knows the distinct units of one kind. It is to be made with newTable.
type table struct {
	mu     sync.Mutex
	stored sync.Cond // signalled when somebody may wait for what changed
	waits  int
	ids    map[[32]byte]ID
	units  []Unit // with Len 0 until they are stored
	failed bool
}

func newTable() *table {
	t := &table{ids: map[[32]byte]ID{}}
	t.stored.L = &t.mu
	return t
}

// claim returns the ID of the unit with a digest, and whether it is new: then the caller must store it and call set, without waiting for other units.
func (t *table) claim(digest [32]byte) (id ID, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id, ok := t.ids[digest]; ok {
		return id, false
	}
	id = ID(len(t.units))
	t.ids[digest] = id
	t.units = append(t.units, Unit{})
	return id, true
}

// set says that a unit is stored.
func (t *table) set(id ID, u Unit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.units[id] = u
	if t.waits > 0 {
		t.stored.Broadcast()
	}
}

// get returns a unit as soon as it is stored: another source may have claimed it just now. It reports false if the table failed before.
func (t *table) get(id ID) (Unit, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waits++
	for t.units[id].Len == 0 && !t.failed {
		t.stored.Wait()
	}
	t.waits--
	return t.units[id], t.units[id].Len > 0
}

// fail ends waiting for units that will never be stored.
func (t *table) fail() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = true
	t.stored.Broadcast()
}

// freeze frees what only claim needs.
func (t *table) freeze() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ids = nil
}
