package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// pulledEntry is what the last pull of a repository was given that worked, as [Pulled.Keep] has it kept.
type pulledEntry struct {
	Registry   string     `json:"registry"`
	Repository string     `json:"repository"`
	Credential Credential `json:"credential"`
	At         time.Time  `json:"at"`
}

// Keep has what pulls were given that worked kept by somebody who outlives this process, with secrets in it: keep is called with all of it, whenever it has changed, and not concurrently.
func (p *Pulled) Keep(keep func(state []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep = keep
}

// changed has the state kept. The caller holds p.mu.
func (p *Pulled) changed() {
	if p.keep == nil {
		return
	}
	all := make([]pulledEntry, 0, len(p.logins))
	for k, l := range p.logins {
		if l.good != auth.EmptyCredential {
			all = append(all, pulledEntry{k.registry, k.repository, l.good, l.at})
		}
	}
	if b, err := json.Marshal(all); err == nil { // it always can be
		p.keep(b)
	}
}

// Recall remembers what Keep had kept for an earlier process.
func (p *Pulled) Recall(state []byte) error {
	var all []pulledEntry
	if err := json.Unmarshal(state, &all); err != nil {
		return errors.New("recall credentials: what was kept is no JSON of them") // which would be quoted
	}
	if len(all) > maxPulled {
		return fmt.Errorf("recall credentials: there are %d, at most %d are remembered", len(all), maxPulled)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logins = make(map[pulledKey]*pulledLogin, len(all))
	for _, e := range all {
		p.logins[pulledKey{e.Registry, e.Repository}] = &pulledLogin{good: e.Credential, at: e.At}
	}
	return nil
}
