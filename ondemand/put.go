package ondemand

// Putter is a [Target] that is its own presence, and writes and marks a frame in one step. Between a WriteAt and a Set a failing disk could lose the bytes of a frame that is
// marked afterwards.
type Putter interface {
	// Put writes a frame's bytes as WriteAt does and marks it as present.
	Put(frame int, p []byte, off int64) error
}

// put writes a frame to the target and marks it as present.
func (bd *binding) put(frame int, p []byte, off int64) error {
	if t, ok := bd.target.(Putter); ok {
		return t.Put(frame, p, off)
	}
	if _, err := bd.target.WriteAt(p, off); err != nil {
		return err
	}
	bd.presence.Set(frame)
	return nil
}
