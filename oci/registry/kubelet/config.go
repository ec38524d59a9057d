package kubelet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxConfig bounds a file of the configuration, in bytes.
const maxConfig = 1 << 20

// providersConfig is the kind CredentialProviderConfig of kubelet.config.k8s.io, in YAML or JSON.
type providersConfig struct {
	APIVersion string           `yaml:"apiVersion"`
	Kind       string           `yaml:"kind"`
	Providers  []providerConfig `yaml:"providers"`
}

// providerConfig is what the configuration says of one plugin.
type providerConfig struct {
	Name                 string           `yaml:"name"`        // of the program
	MatchImages          []string         `yaml:"matchImages"` // patterns
	DefaultCacheDuration string           `yaml:"defaultCacheDuration"`
	APIVersion           string           `yaml:"apiVersion"` // of the protocol
	Args                 []string         `yaml:"args"`
	Env                  []variable       `yaml:"env"`
	TokenAttributes      *tokenAttributes `yaml:"tokenAttributes"`
}

type variable struct {
	Name  string `yaml:"name"`
	Value string `yaml:"value"`
}

// tokenAttributes ask for a token of the pod's service account, which only kubelet has.
type tokenAttributes struct {
	RequireServiceAccount bool `yaml:"requireServiceAccount"`
}

// readConfig reads a file, or the files of a directory in the order of their names, as kubelet does.
func readConfig(path string) (all []providerConfig, err error) {
	files := []string{path}
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if info.IsDir() {
		if files, err = configFiles(path); err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		c, err := readConfigFile(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		all = append(all, c.Providers...)
	}
	for i, c := range all {
		if slices.ContainsFunc(all[:i], func(o providerConfig) bool { return o.Name == c.Name }) {
			return nil, fmt.Errorf("%s: provider %q is there twice", path, c.Name)
		}
	}
	return all, nil
}

func configFiles(dir string) (files []string, err error) {
	entries, err := os.ReadDir(dir) // sorted
	for _, e := range entries {
		if !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, err
}

func readConfigFile(path string) (c providersConfig, err error) {
	f, err := os.Open(path)
	if err != nil {
		return c, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return c, err
	}
	if len(b) > maxConfig {
		return c, fmt.Errorf("it has more than %d bytes", maxConfig)
	}
	return parseConfig(b)
}

func parseConfig(b []byte) (c providersConfig, err error) {
	if err := yaml.Unmarshal(b, &c); err != nil {
		return c, err
	}
	if group, _, _ := strings.Cut(c.APIVersion, "/"); group != "kubelet.config.k8s.io" || c.Kind != "CredentialProviderConfig" {
		return c, fmt.Errorf("it is %q of %q, not CredentialProviderConfig of kubelet.config.k8s.io", c.Kind, c.APIVersion)
	}
	for _, p := range c.Providers {
		if err := p.check(); err != nil {
			return c, fmt.Errorf("provider %q: %w", p.Name, err)
		}
	}
	return c, nil
}

func (c providerConfig) check() error {
	if c.Name == "" || c.Name == "." || c.Name == ".." || strings.ContainsAny(c.Name, `/\ `) {
		return errors.New("its name is none of a program in the directory of plugins")
	}
	if !slices.Contains([]string{protocol + "/v1", protocol + "/v1beta1", protocol + "/v1alpha1"}, c.APIVersion) {
		return fmt.Errorf("its apiVersion %q is none of %s", c.APIVersion, protocol)
	}
	if len(c.MatchImages) == 0 {
		return errors.New("it has no matchImages")
	}
	for _, pattern := range c.MatchImages {
		if _, err := matches(pattern, "registry.example.com/x"); err != nil {
			return fmt.Errorf("matchImages: %w", err)
		}
	}
	if d, err := time.ParseDuration(c.DefaultCacheDuration); err != nil || d < 0 {
		return fmt.Errorf("its defaultCacheDuration %q is no duration", c.DefaultCacheDuration)
	}
	return nil
}
