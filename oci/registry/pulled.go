package registry

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pagein/pagein/oci"
)

// Pulled remembers the credentials that images were pulled with by somebody else, in memory only. What was given for one repository is used for that repository only, at its registry and
// never at a mirror. What a pull was given that is under way is tried first, as containerd may ask for the image meanwhile, and what the last one was given that worked is there for when it is
// refused: whoever pulls with a wrong password must not take from running containers what they read with. The zero value is ready; its methods may be called concurrently.
type Pulled struct {
	mu     sync.Mutex
	logins map[pulledKey]*pulledLogin
	keep   func(state []byte) // or nil
}

type pulledKey struct{ registry, repository string }

// pulledLogin is what was given for a repository.
type pulledLogin struct {
	good   Credential // to the last pull that worked, if there was one
	at     time.Time  // when something was given last
	trials []*trial   // of pulls under way, in the order of their beginning
}

// trial is what a pull was given of which it is not known yet whether it works.
type trial struct {
	credential Credential
	refused    bool // by a server
}

// maxPulled bounds of how many repositories credentials are remembered.
const maxPulled = 4096

// Remember has a credential used for the repository that an image is of while it is pulled, and afterwards, in place of an older one, if that worked. Server is the address that the
// credential is said to be for, perhaps as a URL, and may be empty; one for another server than the image's registry is not remembered. The returned function must be called once, at
// the end of the pull.
func (p *Pulled) Remember(image oci.Ref, server string, c Credential) (ended func(worked bool)) {
	if image.Kind != oci.Registry || c == auth.EmptyCredential || !sameServer(server, image.Host) {
		return func(bool) {}
	}
	key, t := pulledKey{image.Host, image.Repository}, &trial{credential: c}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.login(key)
	l.trials = append(l.trials, t)
	return func(worked bool) { p.ended(key, t, worked) }
}

// login returns what there is of a repository, which becomes the newest, and makes it if there is nothing. The caller holds p.mu.
func (p *Pulled) login(key pulledKey) *pulledLogin {
	l := p.logins[key]
	if l == nil {
		if p.logins == nil {
			p.logins = make(map[pulledKey]*pulledLogin)
		}
		if len(p.logins) >= maxPulled {
			p.forgetOldest()
		}
		l = new(pulledLogin)
		p.logins[key] = l
	}
	l.at = time.Now()
	return l
}

func (p *Pulled) ended(key pulledKey, t *trial, worked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.logins[key]
	if l != nil {
		l.trials = slices.DeleteFunc(l.trials, func(o *trial) bool { return o == t })
	}
	switch {
	case worked:
		if l = p.login(key); l.good != t.credential {
			l.good = t.credential
			p.changed()
		}
	case l != nil && len(l.trials) == 0 && l.good == auth.EmptyCredential:
		delete(p.logins, key)
	}
}

func (p *Pulled) forgetOldest() {
	var oldest pulledKey
	var at time.Time
	for k, l := range p.logins {
		if at.IsZero() || l.at.Before(at) {
			oldest, at = k, l.at
		}
	}
	delete(p.logins, oldest)
}

// Credential implements [Logins].
func (p *Pulled) Credential(_ context.Context, at Place) (Credential, error) {
	if at.IsMirror() {
		return auth.EmptyCredential, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.logins[pulledKey{at.Registry, at.Repository}]; l != nil {
		return l.first(), nil
	}
	return auth.EmptyCredential, nil
}

// first is what to log in with first.
func (l *pulledLogin) first() Credential {
	for _, t := range slices.Backward(l.trials) {
		if !t.refused {
			return t.credential
		}
	}
	if l.good == auth.EmptyCredential && len(l.trials) > 0 {
		return l.trials[len(l.trials)-1].credential
	}
	return l.good
}

// Refused implements [Logins]. What a server refused a pull that is under way comes after the rest until that pull is over; else the next pull brings another one, and what was refused once may
// be good again.
func (p *Pulled) Refused(at Place, c Credential) (another bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.logins[pulledKey{at.Registry, at.Repository}]
	if l == nil || at.IsMirror() {
		return false
	}
	for _, t := range l.trials {
		t.refused = t.refused || t.credential == c
	}
	next := l.first()
	return next != c && next != auth.EmptyCredential
}

// String implements [Logins].
func (p *Pulled) String() string { return "the pull" }

// sameServer reports whether a server's address, as clients write it, is that of a registry.
func sameServer(server, registry string) bool {
	if server == "" {
		return true
	}
	host, _, _ := strings.Cut(server, "/")
	if u, err := url.Parse(server); err == nil && u.Host != "" {
		host = u.Host
	}
	return dockerHub(host) == dockerHub(registry)
}

// dockerHub gives the names of Docker Hub as one.
func dockerHub(host string) string {
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return host
}
