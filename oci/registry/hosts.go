package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/errdefs"
	clog "github.com/containerd/log"

	"github.com/pagein/pagein/internal/httprange"
)

// hostsPatience is how long a directory is trusted before it is looked at again.
const hostsPatience = 5 * time.Second

// hostSet is the endpoints of a registry as they were configured when somebody looked last.
type hostSet struct {
	endpoints []*endpoint
	dir       string // that they are from, empty for none
	files     uint64 // of the directory's files
	looked    time.Time
	referrers referrersAPI
}

func (h *hostSet) close() {
	for _, e := range h.endpoints {
		for _, c := range e.idle {
			c.CloseIdleConnections()
		}
	}
}

// endpoints returns the servers that a registry's configuration names, the registry itself last, or only that without configuration. A change of the
// configuration counts within seconds; one that cannot be read changes nothing while there is an older one.
func (c *Client) endpoints(k hostKey) ([]*endpoint, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	old := c.hosts[k]
	if old != nil && (len(c.o.HostsDirs) == 0 || now.Sub(old.looked) < hostsPatience) {
		return old.endpoints, nil
	}
	dir, err := c.hostsDir(k.registry)
	if err != nil {
		return nil, fmt.Errorf("find the configuration of registry %s: %w", k.registry, err)
	}
	fresh := &hostSet{dir: dir, files: fingerprint(dir), looked: now}
	if old != nil && old.dir == fresh.dir && old.files == fresh.files {
		old.looked = now
		return old.endpoints, nil
	}
	if fresh.endpoints, err = c.load(k, dir); err != nil {
		err = fmt.Errorf("read the configuration of registry %s in %s: %w", k.registry, dir, err)
		if old == nil {
			return nil, err
		}
		c.log.Warn("configuration stays as it was", "err", err)
		old.looked = now
		return old.endpoints, nil
	}
	if old != nil {
		c.log.Info("registry's configuration has changed", "registry", k.registry, "directory", dir, "endpoints", len(fresh.endpoints))
		old.close()
	}
	c.hosts[k] = fresh
	return fresh.endpoints, nil
}

// hostsDir finds the directory that says something about a registry, as containerd does with each of a list of directories.
func (c *Client) hostsDir(registry string) (string, error) {
	for _, root := range c.o.HostsDirs {
		dir, err := config.HostDirFromRoot(root)(registry)
		if err == nil || !errdefs.IsNotFound(err) {
			return dir, err
		}
	}
	return "", nil
}

// fingerprint tells the states of a directory apart, by the names, sizes and times of what is in it.
func fingerprint(dir string) uint64 {
	h := fnv.New64a()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		s, err := stateOf(filepath.Join(dir, e.Name()))
		fmt.Fprintln(h, e.Name(), s, errors.Is(err, fs.ErrNotExist))
	}
	return h.Sum64()
}

// load makes the endpoints of a registry.
func (c *Client) load(k hostKey, dir string) ([]*endpoint, error) {
	if dir == "" {
		own, err := c.ownEndpoint(k)
		return []*endpoint{own}, err
	}
	transports := make(map[*http.Client]*http.Transport)
	options := config.HostOptions{
		HostDir: func(string) (string, error) { return dir, nil },
		UpdateClient: func(hc *http.Client) error {
			t, ok := hc.Transport.(*http.Transport)
			if !ok {
				return errors.New("unknown kind of transport")
			}
			httprange.Tune(t)
			transports[hc] = t
			return nil
		},
	}
	if k.plain {
		options.DefaultScheme = "http"
	}
	if c.o.Insecure {
		options.DefaultTLS = &tls.Config{InsecureSkipVerify: true} // #nosec G402 -- the user asked for it
	}
	found, err := config.ConfigureHosts(clog.WithLogger(context.Background(), quietly(c.log)), options)(k.registry)
	if err != nil {
		return nil, err
	}
	endpoints := make([]*endpoint, 0, len(found))
	for _, h := range found {
		t := transports[h.Client]
		if t == nil {
			return nil, fmt.Errorf("host %s: its transport is unknown", h.Host)
		}
		e := &endpoint{scheme: h.Scheme, host: h.Host, path: h.Path, can: capabilitiesOf(h.Capabilities)}
		if h.Host != apiHost(k.registry) {
			e.mirrors = k.registry
		}
		if e, err = c.newEndpoint(e, httprange.Connection{Transport: t, Home: h.Client.Transport, Header: h.Header}); err != nil {
			return nil, err
		}
		endpoints = append(endpoints, e)
	}
	return endpoints, nil
}

func capabilitiesOf(have docker.HostCapabilities) (can capability) {
	for theirs, ours := range map[docker.HostCapabilities]capability{
		docker.HostCapabilityPull: canPull, docker.HostCapabilityResolve: canResolve, docker.HostCapabilityPush: canPush, docker.HostCapabilityReferrers: canReferrers,
	} {
		if have.Has(theirs) {
			can |= ours
		}
	}
	return can
}
