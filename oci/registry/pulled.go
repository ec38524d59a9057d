package registry

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pagein/pagein/oci"
)

// Pulled remembers the credentials that images were pulled with by somebody else, in memory only. What was given for one repository is used for that repository only, at its registry and
// never at a mirror. The zero value is ready; its methods may be called concurrently.
type Pulled struct {
	mu     sync.Mutex
	logins map[pulledKey]pulledLogin
	keep   func(state []byte) // or nil
}

type pulledKey struct{ registry, repository string }

// pulledLogin is what was given last for a repository.
type pulledLogin struct {
	credential Credential
	at         time.Time
}

// maxPulled bounds of how many repositories credentials are remembered.
const maxPulled = 4096

// Remember has a credential used for the repository that an image is of, in place of an older one. Server is the address that the credential is said to be for, perhaps as a URL, and
// may be empty; one for another server than the image's registry is not remembered. The returned function takes it back, for a pull that failed.
func (p *Pulled) Remember(image oci.Ref, server string, c Credential) (takeBack func()) {
	if image.Kind != oci.Registry || c == auth.EmptyCredential || !sameServer(server, image.Host) {
		return func() {}
	}
	key, now := pulledKey{image.Host, image.Repository}, pulledLogin{c, time.Now()}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.logins == nil {
		p.logins = make(map[pulledKey]pulledLogin)
	}
	before, there := p.logins[key]
	p.logins[key] = now
	if len(p.logins) > maxPulled {
		p.forgetOldest()
	}
	if before.credential != c {
		p.changed()
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.logins[key] != now { // of another pull meanwhile
			return
		}
		if there {
			p.logins[key] = before
		} else {
			delete(p.logins, key)
		}
		p.changed()
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
	return p.logins[pulledKey{at.Registry, at.Repository}].credential, nil
}

// Refused implements [Logins]. The next pull brings another one; what was refused once may be good again.
func (p *Pulled) Refused(Place, Credential) bool { return false }

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
