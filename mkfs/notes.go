package mkfs

import "fmt"

// maxNoted bounds the notes that are made once: untrusted tars may have any number of odd names.
const maxNoted = 100

// notes gathers what users should know. The zero value keeps them.
type notes struct {
	seen map[string]bool
	all  []note
	tell func(message string) // is told at once; nil keeps the note in all
}

// note is a sentence and what it is about.
type note struct{ about, message string }

// once makes one note about each thing.
func (n *notes) once(about, message string) {
	if n.seen[about] || len(n.seen) >= maxNoted {
		return
	}
	if n.seen == nil {
		n.seen = map[string]bool{}
	}
	n.seen[about] = true
	if n.tell != nil {
		n.tell(message)
		return
	}
	n.all = append(n.all, note{about, message})
}

// xattr says, once for each attribute, that it is left out.
func (n *notes) xattr(path, name string) {
	n.once(name, fmt.Sprintf("extended attribute %q of %q, and of other files that have it, is left out: EROFS has no place for it", name, path))
}
