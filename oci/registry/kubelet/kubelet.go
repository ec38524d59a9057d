// Package kubelet takes registry credentials from kubelet's credential provider plugins, with kubelet's own configuration: the one behind --image-credential-provider-config, and the
// directory behind --image-credential-provider-bin-dir. Clouds have such plugins for their registries.
//
// It knows the plugins' protocol (credentialprovider.kubelet.k8s.io) and kubelet's rules for matching images, and nothing of registries. The one idea to hold in mind: what a plugin gave is
// used for as long as it says, unless a registry refuses it before.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pagein/pagein/internal/helper"
	"github.com/pagein/pagein/oci/registry"
)

const (
	// patience is how long a plugin may take. Some ask a cloud; readers wait for it.
	patience = 25 * time.Second
	// refusedAge is how old an answer is at least that is asked for again because a registry refused it: plugins that give what is refused run no more often than that.
	refusedAge = time.Second / 2
	// failureAge is how long a plugin that failed is left alone.
	failureAge = 10 * time.Second
	// maxAnswers bounds what is remembered of answers.
	maxAnswers = 1024
)

// Plugins are the plugins of one configuration. Its methods may be called concurrently.
type Plugins struct {
	providers []*provider
	path      string
	log       *slog.Logger
}

var _ registry.Logins = (*Plugins)(nil)

// Open reads kubelet's configuration, a file or a directory of such, and finds the plugins' programs.
func Open(config, bin string, log *slog.Logger) (*Plugins, error) {
	read, err := readConfig(config)
	if err != nil {
		return nil, fmt.Errorf("read kubelet's credential providers: %w", err)
	}
	p := &Plugins{path: config, log: log}
	for _, c := range read {
		if c.TokenAttributes != nil && c.TokenAttributes.RequireServiceAccount {
			log.Warn("credential provider is not used: it wants a pod's service account", "provider", c.Name)
			continue
		}
		made, err := newProvider(c, bin)
		if err != nil {
			return nil, fmt.Errorf("read kubelet's credential providers in %s: %w", config, err)
		}
		p.providers = append(p.providers, made)
	}
	return p, nil
}

// Credential implements [registry.Logins]. The plugins are asked in the order of their configuration; mirrors get nothing.
func (p *Plugins) Credential(ctx context.Context, at registry.Place) (registry.Credential, error) {
	if at.IsMirror() {
		return registry.Credential{}, nil
	}
	image := at.Registry + "/" + at.Repository
	var failed error
	for _, provider := range p.providers {
		if !provider.isFor(image) {
			continue
		}
		logins, err := provider.logins(ctx, image)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("ask credential provider %s for %s: %w", provider.Name, image, err))
			continue
		}
		if c, ok := choose(logins, image); ok {
			return c, nil
		}
	}
	return registry.Credential{}, failed
}

// Refused implements [registry.Logins].
func (p *Plugins) Refused(at registry.Place, _ registry.Credential) (another bool) {
	image := at.Registry + "/" + at.Repository
	for _, provider := range p.providers {
		if provider.isFor(image) && provider.forget(image) {
			another = true
		}
	}
	return another
}

// String implements [registry.Logins].
func (p *Plugins) String() string { return "kubelet's credential providers in " + p.path }

// ask runs a provider's plugin.
func (p *provider) ask(ctx context.Context, image string) (response, error) {
	question, err := p.question(image)
	if err != nil {
		return response{}, err
	}
	answer, err := helper.Ask(ctx, helper.Program{Path: p.program, Args: p.Args, Env: p.env}, question, patience)
	if err != nil {
		if line := firstLine(answer.Said); line != "" {
			err = fmt.Errorf("%w: %s", err, line)
		}
		return response{}, err
	}
	return p.parse(answer.Out)
}
