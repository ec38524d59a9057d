package registry

// AskHelper runs a credential helper.
var AskHelper = askHelper

// LookAgain has a repository's configuration read again.
func LookAgain(r *Repository) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	for _, h := range r.c.hosts {
		h.looked = h.looked.Add(-2 * hostsPatience)
	}
}
