package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/pagein/pagein/internal/httprange"
	"github.com/pagein/pagein/node"
	"github.com/pagein/pagein/ondemand/backend"
)

// remoteConfig is the part of the configuration that says where images may come from. It has no options on the command line.
type remoteConfig struct {
	HostsDirs []string        `toml:"hosts-dirs"`
	Stall     duration        `toml:"stall-timeout"`
	Proxy     *proxyConfig    `toml:"proxy"`
	Storage   []storageConfig `toml:"storage"`
}

// proxyConfig is the table [proxy].
type proxyConfig struct {
	URL       string            `toml:"url"`
	Headers   map[string]string `toml:"headers"`
	PlainHTTP bool              `toml:"plain-http"`
	CA        string            `toml:"ca"`
	Ping      string            `toml:"ping-url"`
	Check     duration          `toml:"check-interval"`
	Fallback  *bool             `toml:"fallback"` // default true
}

// storageConfig is one of the tables [[storage]].
type storageConfig struct {
	URL       string            `toml:"url"`
	Headers   map[string]string `toml:"headers"`
	CA        string            `toml:"ca"`
	Insecure  bool              `toml:"insecure"`
	Endpoint  string            `toml:"endpoint"`
	Region    string            `toml:"region"`
	AccessKey string            `toml:"access-key"`
	SecretKey string            `toml:"secret-key"`
	Token     string            `toml:"session-token"`
	Style     string            `toml:"style"`
	Anonymous bool              `toml:"anonymous"`
}

// defaultHostsDirs are those of containerd.
func defaultHostsDirs() []string {
	return []string{"/etc/containerd/certs.d", "/etc/docker/certs.d"}
}

// duration is written as "5s" or "1m30s".
type duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return err
	}
	if v <= 0 {
		return fmt.Errorf("duration %s is not positive", v)
	}
	*d = duration(v)
	return nil
}

// openRemote makes what the node reads with. The returned function closes it.
func (c remoteConfig) openRemote(log *slog.Logger) (node.Remote, func(), error) {
	r := node.Remote{HostsDirs: c.HostsDirs, Stall: time.Duration(c.Stall)}
	for _, dir := range r.HostsDirs {
		if !filepath.IsAbs(dir) {
			return node.Remote{}, nil, fmt.Errorf("hosts-dirs: %q is no absolute path", dir)
		}
	}
	places := make([]backend.Place, len(c.Storage))
	for i, s := range c.Storage {
		places[i] = backend.Place(s)
	}
	var err error
	if r.Storage, err = backend.NewStorage(backend.StorageOptions{Places: places, Stall: time.Duration(c.Stall)}); err != nil {
		return node.Remote{}, nil, err
	}
	if c.Proxy != nil {
		if r.Peers, err = c.Proxy.open(log); err != nil {
			r.Storage.Close()
			return node.Remote{}, nil, err
		}
	}
	return r, func() {
		r.Storage.Close()
		if r.Peers != nil {
			r.Peers.Close()
		}
	}, nil
}

func (c *proxyConfig) open(log *slog.Logger) (*httprange.Proxy, error) {
	if c.URL == "" {
		return nil, errors.New("proxy: url is missing")
	}
	return httprange.NewProxy(httprange.ProxyOptions{
		URL: c.URL, Headers: c.Headers, PlainHTTP: c.PlainHTTP, CA: c.CA, Ping: c.Ping, Check: time.Duration(c.Check), Strict: c.Fallback != nil && !*c.Fallback, Log: log,
	})
}
