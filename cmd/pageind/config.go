package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"
	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/node"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/oci/remote"
)

const defaultConfig = "/etc/pagein/config.toml"

// config is the daemon's configuration: the keys of the TOML file, and the options of the same names.
type config struct {
	remote.Config
	readingConfig
	cacheConfig
	snapshotsConfig

	Root          string `toml:"root"`
	Run           string `toml:"run"`
	Address       string `toml:"address"`
	Transport     string `toml:"transport"`
	UnmountOnExit bool   `toml:"unmount-on-exit"`
	RestoreMounts bool   `toml:"restore-mounts"`
	LogLevel      string `toml:"log-level"`
	LogFormat     string `toml:"log-format"`

	CheckMetadata  bool `toml:"check-metadata"`
	ExternalKeeper bool `toml:"external-keeper"`

	MetricsAddress string `toml:"metrics-address"`
	Pprof          bool   `toml:"pprof"`

	file string // that it was read from; "" for none
}

var defaults = config{
	Root: "/var/lib/pagein", Run: "/run/pagein", Address: control.DefaultAddress, Transport: node.Auto, LogLevel: "info", LogFormat: "text", RestoreMounts: true,
	readingConfig: readingConfig{ReadDeadline: "30s", Prefetch: "none"},
	cacheConfig:   cacheConfig{CacheHigh: "90%", CacheLow: "80%", CacheReserve: "64MiB", EvictIdleMounts: never},
}

// readConfig returns the defaults, changed by the file, changed by the command line.
func readConfig(c *cli.Context) (config, error) {
	cfg := defaults
	cfg.Config = remote.Default()
	path, optional := c.Path("config"), false
	if path == "" {
		path, optional = defaultConfig, true
	}
	b, err := os.ReadFile(path)
	switch {
	case err == nil:
		cfg.file = path
	case !optional || !errors.Is(err, fs.ErrNotExist):
		return cfg, fmt.Errorf("read configuration: %w", err)
	}
	if err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(&cfg); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) {
			return cfg, fmt.Errorf("read configuration %s: keys that pageind does not know: %s", path, unknownKeys(b, strict))
		}
		if wrong := (*toml.DecodeError)(nil); errors.As(err, &wrong) {
			row, _ := wrong.Position()
			return cfg, fmt.Errorf("read configuration %s, line %d: %w (times, sizes and addresses are written in quotes)\n%s", path, row, err, wrong.String())
		}
		return cfg, fmt.Errorf("read configuration %s: %w", path, err)
	}
	for name, value := range map[string]*string{
		"root": &cfg.Root, "run": &cfg.Run, "address": &cfg.Address, "transport": &cfg.Transport, "log-level": &cfg.LogLevel, "log-format": &cfg.LogFormat,
		"read-deadline": &cfg.ReadDeadline, "prefetch": &cfg.Prefetch, "metrics-address": &cfg.MetricsAddress, "snapshotter": &cfg.Snapshotter.Address,
	} {
		if c.IsSet(name) {
			*value = c.String(name)
		}
	}
	for name, value := range map[string]*bool{
		"unmount-on-exit": &cfg.UnmountOnExit, "restore-mounts": &cfg.RestoreMounts, "external-keeper": &cfg.ExternalKeeper, "pprof": &cfg.Pprof,
	} {
		if c.IsSet(name) {
			*value = c.Bool(name)
		}
	}
	if cfg.Root, err = filepath.Abs(cfg.Root); err != nil {
		return cfg, err
	}
	if cfg.Run, err = filepath.Abs(cfg.Run); err != nil {
		return cfg, err
	}
	if err := cfg.checkSnapshotter(); err != nil {
		return cfg, fmt.Errorf("configuration: %w", err)
	}
	return cfg, oneOf("transport", cfg.Transport, node.Auto, "fanotify", "cachefiles", "file")
}

// origin says where the configuration is from: a file, or the command line alone.
func (c config) origin() string {
	if c.file == "" {
		return "no configuration file"
	}
	return c.file
}

// warnOfReaders tells of keys in a file that others can read.
func (c config) warnOfReaders(log *slog.Logger) {
	if st, err := os.Stat(c.file); err == nil && st.Mode().Perm()&0o004 != 0 && c.HoldsKeys() {
		log.Warn("everybody on this machine can read the keys in the configuration: give the file mode 0600", "file", c.file, "mode", st.Mode())
	}
}

func (c config) keeperSocket() string { return filepath.Join(c.Run, "keeper.sock") }
func (c config) keeperLog() string    { return filepath.Join(c.Run, "keeper.log") }

// logger returns the logger that the configuration asks for.
func (c config) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return nil, fmt.Errorf("log level %q is none of debug, info, warn, error", c.LogLevel)
	}
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: redact}
	switch c.LogFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("log format %q is none of text, json", c.LogFormat)
}
