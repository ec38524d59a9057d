package registry

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
)

// maxLacking is how long a registry without the referrers API is believed not to have got it meanwhile.
const maxLacking = time.Hour

// referrersAPI is what is known of a registry's referrers API. It may be used concurrently.
type referrersAPI struct {
	there   atomic.Bool
	lacking atomic.Int64 // when that was found, in nanoseconds since 1970; 0 for never
}

func (a *referrersAPI) isLacking() bool {
	return time.Since(time.Unix(0, a.lacking.Load())) < maxLacking
}

// Referrers lists what refers to the manifest desc, of which only the digest counts: by the referrers API or, where there is none, by the tag that stands for it. A registry of which it
// is not known which it has is asked for both at the same time: a list costs one round trip. An empty artifactType stands for all; fn may be called several times, for a part each.
func (r *Repository) Referrers(ctx context.Context, desc ocispec.Descriptor, artifactType string, fn func([]ocispec.Descriptor) error) error {
	api, err := r.referrersAPI()
	if err != nil {
		return err
	}
	switch {
	case api.there.Load():
		err := r.speaking(true).Referrers(ctx, desc, artifactType, fn)
		if !errors.Is(err, errdef.ErrUnsupported) {
			return err
		}
		api.there.Store(false) // another server took its place
	case api.isLacking():
		return r.speaking(false).Referrers(ctx, desc, artifactType, fn)
	}
	tagged := make(chan struct{})
	var byTag []ocispec.Descriptor
	var tagErr error
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer close(tagged)
		tagErr = r.speaking(false).Referrers(ctx, desc, artifactType, func(part []ocispec.Descriptor) error {
			byTag = append(byTag, part...)
			return nil
		})
	}()
	err = r.speaking(true).Referrers(ctx, desc, artifactType, fn)
	if !errors.Is(err, errdef.ErrUnsupported) {
		stop()
		<-tagged
		if err == nil {
			api.there.Store(true)
		}
		return err
	}
	api.lacking.Store(time.Now().UnixNano())
	<-tagged
	if tagErr != nil || len(byTag) == 0 {
		return tagErr
	}
	return fn(byTag)
}

// speaking returns the repository as one whose registry is known to have the referrers API, or to have none.
func (r *Repository) speaking(api bool) *remote.Repository {
	s := &remote.Repository{Client: r.Client, Reference: r.Reference, PlainHTTP: r.PlainHTTP, MaxMetadataBytes: r.MaxMetadataBytes}
	_ = s.SetReferrersCapability(api) // fails only if it was set before
	return s
}

// referrersAPI returns what is known of the registry, as it is configured now.
func (r *Repository) referrersAPI() (*referrersAPI, error) {
	if _, err := r.endpoints(); err != nil {
		return nil, err
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return &r.c.hosts[hostKey{registry: r.Reference.Registry, plain: r.PlainHTTP}].referrers, nil
}
