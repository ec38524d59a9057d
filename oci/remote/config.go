package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/pagein/pagein/internal/httprange"
	"github.com/pagein/pagein/oci/registry/kubelet"
	"github.com/pagein/pagein/ondemand/backend"
)

// Config is the part of the configuration that says where images may come from. It has no options on the command line.
type Config struct {
	HostsDirs []string  `toml:"hosts-dirs"`    // absolute
	Stall     Duration  `toml:"stall-timeout"` // how long a source may go with next to no bytes
	Proxy     *Proxy    `toml:"proxy"`
	Storage   []Storage `toml:"storage"`

	Credentials Credentials `toml:"credentials"`
}

// Credentials is the table [credentials].
type Credentials struct {
	KubeletConfig string `toml:"kubelet-config"`  // file or directory, as of kubelet's --image-credential-provider-config; "" for none
	KubeletBinDir string `toml:"kubelet-bin-dir"` // as of its --image-credential-provider-bin-dir
}

// Proxy is the table [proxy].
type Proxy struct {
	URL       string            `toml:"url"`
	Headers   map[string]string `toml:"headers"`
	PlainHTTP bool              `toml:"plain-http"`
	CA        string            `toml:"ca"`
	Ping      string            `toml:"ping-url"`
	Check     Duration          `toml:"check-interval"`
	Fallback  *bool             `toml:"fallback"` // default true
}

// Storage is one of the tables [[storage]].
type Storage struct {
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

// HoldsKeys reports whether the configuration has something that must be kept secret, or may have, as headers and URLs with a user's name or a query do.
func (c Config) HoldsKeys() bool {
	telling := func(url string, headers map[string]string) bool {
		return len(headers) > 0 || strings.ContainsAny(url, "@?")
	}
	return c.Proxy != nil && telling(c.Proxy.URL, c.Proxy.Headers) || slices.ContainsFunc(c.Storage, func(s Storage) bool {
		return s.SecretKey != "" || s.Token != "" || telling(s.URL, s.Headers)
	})
}

// Default is the configuration without a file: hosts.toml files are looked for where containerd does.
func Default() Config {
	return Config{HostsDirs: []string{"/etc/containerd/certs.d", "/etc/docker/certs.d"}}
}

// Duration is written as "5s" or "1m30s".
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return err
	}
	if v <= 0 {
		return fmt.Errorf("duration %s is not positive", v)
	}
	*d = Duration(v)
	return nil
}

// Read reads the configuration from a file that may hold other keys too, those of the daemon. A file that is not there, or that is not for this user to read, counts as empty.
func Read(path string) (Config, error) {
	c := Default()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return c, nil
	}
	if err == nil {
		err = toml.NewDecoder(bytes.NewReader(b)).Decode(&c)
	}
	if err != nil {
		return c, fmt.Errorf("read configuration %s: %w", path, err)
	}
	return c, nil
}

// Open checks the configuration. It does not connect.
func (c Config) Open(log *slog.Logger) (*Remote, error) {
	r := &Remote{hostsDirs: c.HostsDirs, stall: time.Duration(c.Stall), log: log}
	for _, dir := range r.hostsDirs {
		if !filepath.IsAbs(dir) {
			return nil, fmt.Errorf("hosts-dirs: %q is no absolute path", dir)
		}
	}
	places := make([]backend.Place, len(c.Storage))
	for i, s := range c.Storage {
		places[i] = backend.Place(s)
	}
	var err error
	if r.plugins, err = c.Credentials.open(log); err != nil {
		return nil, err
	}
	if r.storage, err = backend.NewStorage(backend.StorageOptions{Places: places, Stall: r.stall}); err != nil {
		return nil, err
	}
	if c.Proxy != nil {
		if r.peers, err = c.Proxy.open(log); err != nil {
			r.Close()
			return nil, err
		}
	}
	return r, nil
}

func (p *Proxy) open(log *slog.Logger) (*httprange.Proxy, error) {
	if p.URL == "" {
		return nil, errors.New("proxy: url is missing")
	}
	return httprange.NewProxy(httprange.ProxyOptions{
		URL: p.URL, Headers: p.Headers, PlainHTTP: p.PlainHTTP, CA: p.CA, Ping: p.Ping, Check: time.Duration(p.Check), Strict: p.Fallback != nil && !*p.Fallback, Log: log,
	})
}

// open returns kubelet's plugins, nil if there are none.
func (c Credentials) open(log *slog.Logger) (*kubelet.Plugins, error) {
	if c.KubeletConfig == "" && c.KubeletBinDir == "" {
		return nil, nil
	}
	for _, path := range []string{c.KubeletConfig, c.KubeletBinDir} {
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("[credentials]: kubelet-config and kubelet-bin-dir must both be there, and be absolute paths: %q is none", path)
		}
	}
	p, err := kubelet.Open(c.KubeletConfig, c.KubeletBinDir, log)
	if errors.Is(err, fs.ErrPermission) { // what the daemon may use is not for every user
		log.Info("kubelet's credential providers are not used", "reason", err)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("[credentials]: %w", err)
	}
	return p, nil
}
