package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// protocol is the group of the plugins' API.
const protocol = "credentialprovider.kubelet.k8s.io"

// request is the kind CredentialProviderRequest, which a plugin reads from its standard input.
type request struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Image      string `json:"image"`
}

// response is the kind CredentialProviderResponse, which a plugin prints.
type response struct {
	APIVersion    string           `json:"apiVersion"`
	Kind          string           `json:"kind"`
	CacheKeyType  string           `json:"cacheKeyType"`  // for what it may be used: Image, Registry or Global
	CacheDuration *string          `json:"cacheDuration"` // "0" for not at all
	Auth          map[string]login `json:"auth"`          // by pattern
}

type login struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// provider is a plugin, with what it answered lately.
type provider struct {
	providerConfig
	program string
	env     []string
	keep    time.Duration // how long answers are good that do not say it

	asking chan struct{} // holds one token: a plugin runs once at a time

	mu      sync.Mutex
	answers map[string]answer // by "image IMAGE", "registry HOST" or "global"
}

// answer is what a plugin said, or that it failed.
type answer struct {
	logins    map[string]login
	err       error
	at, until time.Time
}

func newProvider(c providerConfig, bin string) (*provider, error) {
	p := &provider{providerConfig: c, program: filepath.Join(bin, c.Name), asking: make(chan struct{}, 1), answers: make(map[string]answer)}
	if info, err := os.Stat(p.program); err != nil {
		return nil, fmt.Errorf("provider %q: %w", c.Name, err)
	} else if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return nil, fmt.Errorf("provider %q: %s is no program", c.Name, p.program)
	}
	var err error
	if p.keep, err = time.ParseDuration(c.DefaultCacheDuration); err != nil {
		return nil, fmt.Errorf("provider %q: %w", c.Name, err)
	}
	p.env = os.Environ()
	for _, v := range c.Env {
		p.env = append(p.env, v.Name+"="+v.Value)
	}
	return p, nil
}

// isFor reports whether the plugin is to be asked for an image.
func (p *provider) isFor(image string) bool {
	for _, pattern := range p.MatchImages {
		if ok, err := matches(pattern, image); err == nil && ok {
			return true
		}
	}
	return false
}

// keys are under what answers for an image may be remembered: for the image, its registry, and all.
func keys(image string) []string {
	host, _, _ := strings.Cut(image, "/")
	return []string{"image " + image, "registry " + host, "global"}
}

// logins returns what the plugin has for an image: what it said before, if that is still good, or else what it says now.
func (p *provider) logins(ctx context.Context, image string) (map[string]login, error) {
	if a, ok := p.remembered(image); ok {
		return a.logins, a.err
	}
	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for its answer to somebody else: %w", context.Cause(ctx))
	}
	if a, ok := p.remembered(image); ok { // that somebody asked for the same
		return a.logins, a.err
	}
	key, a := p.fresh(ctx, image)
	if a.err == nil || ctx.Err() == nil { // else the plugin was given no time
		p.remember(key, a)
	}
	return a.logins, a.err
}

// fresh asks the plugin, and returns under what its answer is to be remembered.
func (p *provider) fresh(ctx context.Context, image string) (key string, a answer) {
	failed := func(err error) (string, answer) {
		return keys(image)[0], answer{err: err, at: time.Now(), until: time.Now().Add(failureAge)}
	}
	r, err := p.ask(ctx, image)
	if err != nil {
		return failed(err)
	}
	keep := p.keep
	if r.CacheDuration != nil {
		if keep, err = time.ParseDuration(*r.CacheDuration); err != nil || keep < 0 {
			return failed(errors.New("its answer has a cacheDuration that is none"))
		}
	}
	at := slices.Index([]string{"Image", "Registry", "Global"}, r.CacheKeyType)
	if at < 0 {
		return failed(errors.New("its answer has a cacheKeyType that is none of Image, Registry and Global"))
	}
	return keys(image)[at], answer{logins: r.Auth, at: time.Now(), until: time.Now().Add(keep)}
}

func (p *provider) remembered(image string) (answer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range keys(image) {
		if a, ok := p.answers[key]; ok && time.Now().Before(a.until) {
			return a, true
		}
	}
	return answer{}, false
}

func (p *provider) remember(key string, a answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.answers) >= maxAnswers {
		clear(p.answers)
	}
	p.answers[key] = a
}

// forget has the plugin asked anew for an image, unless it was only just asked or has failed, and reports that.
func (p *provider) forget(image string) (forgotten bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range keys(image) {
		if a, there := p.answers[key]; there && a.err == nil && time.Since(a.at) > refusedAge {
			delete(p.answers, key)
			forgotten = true
		}
	}
	return forgotten
}

// question is what a plugin reads.
func (p *provider) question(image string) ([]byte, error) {
	return json.Marshal(request{APIVersion: p.APIVersion, Kind: "CredentialProviderRequest", Image: image})
}

// parse reads what a plugin printed, which errors do not quote: it may be secret.
func (p *provider) parse(out []byte) (r response, err error) {
	if err := json.Unmarshal(out, &r); err != nil {
		return r, errors.New("its answer is no JSON of the protocol")
	}
	if r.Kind != "CredentialProviderResponse" || r.APIVersion != p.APIVersion {
		return r, fmt.Errorf("its answer is no CredentialProviderResponse of %s", p.APIVersion)
	}
	return r, nil
}

// firstLine is the first line of what a plugin said, as far as it can be printed.
func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	const most = 200
	if len(line) > most {
		line = line[:most]
	}
	return strings.ToValidUTF8(strings.TrimSpace(line), "?")
}
