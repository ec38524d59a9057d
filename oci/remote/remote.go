// Package remote knows the part of the configuration that says where images may come from and how those places are reached: directories of hosts.toml files, a
// peer-to-peer proxy, and storage besides registries. The daemon and the command read the same file.
//
// It knows TOML and what backends can be told, and neither reads nor writes objects itself.
package remote

import (
	"log/slog"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/internal/httprange"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/registry/kubelet"
	"github.com/pagein/pagein/ondemand/backend"
)

// Remote is where images may come from. Nil is good for registries as they are. Its methods may be called concurrently.
type Remote struct {
	hostsDirs []string
	stall     time.Duration
	peers     *httprange.Proxy
	storage   *backend.Storage
	pulled    registry.Pulled
	plugins   *kubelet.Plugins // or nil
	log       *slog.Logger
}

// Pulled is what remembers the credentials of pulls by others. It is used for what Registry returns options for.
func (r *Remote) Pulled() *registry.Pulled { return &r.pulled }

// Registry adds to a registry client's options what is configured.
func (r *Remote) Registry(o registry.Options) registry.Options {
	if r == nil {
		return o
	}
	o.HostsDirs, o.Peers, o.Log = r.hostsDirs, r.peers, r.log
	o.Logins = []registry.Logins{&r.pulled}
	if r.plugins != nil {
		o.Logins = append(o.Logins, r.plugins)
	}
	if o.Stall == 0 {
		o.Stall = r.stall
	}
	return o
}

// Prefer returns an object that is read from the given URLs, as far as the configuration allows, and else from where it is beside its artifact. It does not connect.
func (r *Remote) Prefer(urls []string, beside backend.Object) backend.Object {
	if r == nil || len(urls) == 0 {
		return beside
	}
	var all []backend.Object
	for _, u := range urls {
		o, err := r.storage.Open(u, beside.Size())
		if err != nil {
			r.log.Warn("object is not read from a place that its descriptor names", "object", beside.String(), "err", err)
			continue
		}
		all = append(all, o)
	}
	return backend.First(r.log, append(all, beside)...)
}

// Object returns a source object of an artifact that is in a place, preferably from the URLs that its descriptor names. It does not connect.
func (r *Remote) Object(place artifact.Place, desc ocispec.Descriptor) (backend.Object, error) {
	if place.Layout == nil {
		return r.Prefer(desc.URLs, backend.Registry(place.Repository, desc)), nil
	}
	o, err := backend.Layout(place.Layout.Dir(), desc.Digest, desc.Size)
	if err != nil {
		return nil, err
	}
	return r.Prefer(desc.URLs, o), nil
}

// Close closes idle connections and ends health checks.
func (r *Remote) Close() {
	r.storage.Close()
	if r.peers != nil {
		r.peers.Close()
	}
}
