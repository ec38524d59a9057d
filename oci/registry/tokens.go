package registry

import (
	"context"
	"sync"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// tokens keeps what servers gave for credentials, for each repository and source of credentials by itself: what was got with credentials that are meant for one repository must not be
// used for another.
type tokens struct {
	mu     sync.Mutex
	caches map[tokensKey]auth.Cache
}

type tokensKey struct {
	Place
	source int // index
}

func newTokens() *tokens { return &tokens{caches: make(map[tokensKey]auth.Cache)} }

// of returns the cache for the attempt that a context is of.
func (t *tokens) of(ctx context.Context) auth.Cache {
	var key tokensKey
	if a := attemptOf(ctx); a != nil {
		key = a.key()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	cache := t.caches[key]
	if cache == nil {
		if len(t.caches) >= maxPlaces {
			clear(t.caches)
		}
		cache = auth.NewCache()
		t.caches[key] = cache
	}
	return cache
}

func (a *attempt) key() tokensKey { return tokensKey{a.Place, a.source} }

// drop forgets the tokens that an attempt has used, and reports whether there were any.
func (t *tokens) drop(a *attempt) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	cache := t.caches[a.key()]
	delete(t.caches, a.key())
	if cache == nil {
		return false
	}
	_, err := cache.GetScheme(context.Background(), a.Host)
	return err == nil
}

// GetScheme implements auth.Cache.
func (t *tokens) GetScheme(ctx context.Context, registry string) (auth.Scheme, error) {
	return t.of(ctx).GetScheme(ctx, registry)
}

// GetToken implements auth.Cache.
func (t *tokens) GetToken(ctx context.Context, registry string, scheme auth.Scheme, key string) (string, error) {
	return t.of(ctx).GetToken(ctx, registry, scheme, key)
}

// Set implements auth.Cache.
func (t *tokens) Set(ctx context.Context, registry string, scheme auth.Scheme, key string, fetch func(context.Context) (string, error)) (string, error) {
	return t.of(ctx).Set(ctx, registry, scheme, key, fetch)
}
