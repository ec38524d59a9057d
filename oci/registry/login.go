package registry

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// Credential is what to log in with. The zero value is none.
type Credential = auth.Credential

// Place is where somebody is about to log in, and for what.
type Place struct {
	Registry   string // as references name it: "docker.io"
	Repository string // "library/alpine"
	Host       string // the server that asks, perhaps with a port: the registry itself, or a mirror
}

// IsMirror reports whether the server is not the registry itself.
func (p Place) IsMirror() bool { return p.Host != apiHost(p.Registry) }

// Logins is somewhere that credentials come from. Its methods may be called concurrently.
type Logins interface {
	// Credential returns what to log in with, or the zero value if there is nothing. It is asked whenever a token is needed, and is given the time that the request has.
	Credential(ctx context.Context, at Place) (Credential, error)
	// Refused says that a server did not let in who had the credential, which may have expired. It reports whether Credential, asked again, may well return another one.
	Refused(at Place, c Credential) (another bool)
	// String names the source for messages.
	String() string
}

// chain asks several sources of credentials, in order. One that has nothing, fails, or whose credentials are refused, makes room for the next. Which one is let in is remembered for each
// repository.
type chain struct {
	sources []Logins
	log     *slog.Logger
	tokens  *tokens

	mu    sync.Mutex
	first map[Place]int // the source to begin with, where that is not 0
}

func newChain(sources []Logins, log *slog.Logger) *chain {
	return &chain{sources: sources, log: log, tokens: newTokens(), first: make(map[Place]int)}
}

// attempt is one try to be let in, with what the first of some sources has that has something.
type attempt struct {
	Place
	source int // index of the source to begin with
	left   int // how many sources there are from there on, round the end

	mu   sync.Mutex
	used int // how many of them were asked: the last one had the credential that was sent. 0 if a token was there already, or nothing was asked for; more than left for anonymously
	sent Credential
}

// attemptKey is where an attempt is in a request's context.
type attemptKey struct{}

func attemptOf(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	return a
}

// errNoLogin ends an attempt for which there are no credentials, after another one was refused.
var errNoLogin = errors.New("there are no other credentials")

// credential implements auth.CredentialFunc.
func (c *chain) credential(ctx context.Context, _ string) (Credential, error) {
	a := attemptOf(ctx)
	if a == nil {
		return auth.EmptyCredential, nil
	}
	var failed error
	for i := range a.left {
		source := c.sources[(a.source+i)%len(c.sources)]
		found, err := source.Credential(ctx, a.Place)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if found != auth.EmptyCredential {
			if failed != nil {
				c.log.Warn("credentials are taken from elsewhere", "source", source, "registry", a.Registry, "repository", a.Repository, "reason", failed)
			}
			a.use(i+1, found)
			return found, nil
		}
	}
	if failed != nil {
		return auth.EmptyCredential, failed
	}
	if a.left < len(c.sources) {
		return auth.EmptyCredential, errNoLogin
	}
	a.use(a.left+1, auth.EmptyCredential)
	return auth.EmptyCredential, nil
}

func (a *attempt) use(n int, c Credential) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used, a.sent = n, c
}

func (a *attempt) outcome() (used int, sent Credential) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used, a.sent
}

// loginClient sends requests to a server on behalf of repositories.
type loginClient struct {
	*auth.Client
	host  string
	chain *chain // nil for none
}

// Do sends a request for a repository, with what the sources of credentials have until it is let in. If all are refused, the answer is the one to the last of them.
func (l *loginClient) Do(req *http.Request) (*http.Response, error) {
	at, named := placeOf(req.Context(), l.host)
	if l.chain == nil || !named {
		return l.Client.Do(req)
	}
	sources := l.chain.sources
	a := &attempt{Place: at, source: l.chain.begin(at), left: len(sources)}
	var resp *http.Response
	var err error
	stale, again := false, -1 // whether tokens were dropped for this attempt; the source that was asked a second time
	for {
		next, nextErr := l.Client.Do(req.WithContext(context.WithValue(req.Context(), attemptKey{}, a)))
		if errors.Is(nextErr, errNoLogin) {
			return resp, err // there is nothing to add to that
		}
		if resp != nil {
			_ = resp.Body.Close()
		}
		if resp, err = next, nextErr; !refused(resp, err) {
			if err == nil {
				l.chain.worked(at, a.source)
			}
			return resp, err
		}
		switch used, sent := a.outcome(); {
		case used > 0 && used <= a.left:
			who := (a.source + used - 1) % len(sources)
			another := sources[who].Refused(at, sent)
			switch {
			case another && again != who:
				again = who
				a = &attempt{Place: at, source: who, left: a.left - used + 1}
				l.chain.tokens.drop(a)
			case used == a.left:
				return resp, err
			default:
				a = &attempt{Place: at, source: (who + 1) % len(sources), left: a.left - used}
			}
			stale = false
		case used == 0 && !stale && l.chain.tokens.drop(a): // a token was refused that may be older than the credentials
			a, stale = &attempt{Place: at, source: a.source, left: a.left}, true
		default:
			return resp, err
		}
		if !rewind(req) {
			return resp, err
		}
	}
}

// begin is the index of the source that was last let in.
func (c *chain) begin(at Place) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first[at]
}

// maxPlaces bounds what is remembered of places.
const maxPlaces = 4096

func (c *chain) worked(at Place, source int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first[at] == source {
		return
	}
	if len(c.first) >= maxPlaces {
		clear(c.first)
	}
	c.first[at] = source
}

// refused reports whether a server, or the one that gives tokens for it, does not let in who asks.
func refused(resp *http.Response, err error) bool {
	code := 0
	if answer := (*errcode.ErrorResponse)(nil); errors.As(err, &answer) {
		code = answer.StatusCode
	} else if err == nil {
		code = resp.StatusCode
	}
	return code == http.StatusUnauthorized || code == http.StatusForbidden
}

// rewind makes a request ready to be sent again, if that can be.
func rewind(req *http.Request) bool {
	if req.Body == nil || req.Body == http.NoBody {
		return true
	}
	if req.GetBody == nil {
		return false
	}
	body, err := req.GetBody()
	if err != nil {
		return false
	}
	req.Body = body
	return true
}

// repositoryKey is where the repository that a request is for is in its context.
type repositoryKey struct{}

// forRepository says for which repository requests are.
func forRepository(ctx context.Context, r *Repository) context.Context {
	return context.WithValue(ctx, repositoryKey{}, Place{Registry: r.Reference.Registry, Repository: r.Reference.Repository})
}

func placeOf(ctx context.Context, host string) (Place, bool) {
	at, ok := ctx.Value(repositoryKey{}).(Place)
	at.Host = host
	return at, ok
}
