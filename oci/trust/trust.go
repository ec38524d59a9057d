// Package trust is the operator's word on which artifacts may stand for images of containerd.
//
// containerd knows a layer by its chain ID and proves it when it unpacks it; a layer that is not fetched is believed. It then serves every image that has it, so whoever can have a lying
// artifact used decides what other images show. It knows repositories, keys and a command of the operator's, and nothing of images. The one idea to hold in mind: rules are
// looked through in order, and the first that names the repository decides, whatever it then demands.
package trust

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/signature"
)

// Rule says what is demanded of the artifacts in some repositories: all that is not empty.
type Rule struct {
	Repositories []string // HOST or HOST/REPOSITORY, see matches; none for all that there are
	Keys         []string // files with public keys, as patterns of [filepath.Glob]; one of their holders must have signed the artifact
	Command      []string // a program, by its absolute path, and its arguments; it must exit with status 0
}

// Policy is what rules and the default make together: where no rule is about a repository, it is trusted if the registry is on loopback, and else not. Nil has no rules. Its
// methods may be called concurrently.
type Policy struct {
	rules    []Rule
	commands chan struct{} // has as many elements as commands run
}

// New makes a policy of rules that make sense.
func New(rules ...Rule) (*Policy, error) {
	for _, r := range rules {
		if err := r.check(); err != nil {
			return nil, err
		}
	}
	return &Policy{rules: rules, commands: make(chan struct{}, maxCommands)}, nil
}

func (r Rule) check() error {
	if r.Keys != nil && len(r.Keys) == 0 || r.Command != nil && len(r.Command) == 0 {
		return errors.New("a rule has an empty list of keys, or an empty command: it would demand nothing; leave it out if that is meant")
	}
	if len(r.Repositories)+len(r.Keys)+len(r.Command) == 0 {
		return errors.New("a rule names no repositories and demands nothing: it would trust everybody")
	}
	for _, p := range r.Repositories {
		if err := checkPattern(p); err != nil {
			return err
		}
	}
	for _, k := range r.Keys {
		if _, err := filepath.Match(k, ""); err != nil || !filepath.IsAbs(k) {
			return fmt.Errorf("keys %q must be absolute paths, with the wildcards *, ? and [...]", k)
		}
	}
	if len(r.Command) > 0 && !filepath.IsAbs(r.Command[0]) {
		return fmt.Errorf("command %q must begin with an absolute path", r.Command)
	}
	return nil
}

// Problems are keys that can not be read now. The policy does not wait for them: what they signed is not trusted until they can.
func (p *Policy) Problems() (all []error) {
	if p == nil {
		return nil
	}
	for _, r := range p.rules {
		if len(r.Keys) > 0 {
			if _, err := signature.ReadPublicKeys(r.Keys); err != nil {
				all = append(all, err)
			}
		}
	}
	return all
}

// Repository says why no artifact of a repository can be trusted, or nil. It asks nobody.
func (p *Policy) Repository(ref oci.Ref) error {
	_, err := p.rule(ref)
	return err
}

// Names reports whether a rule is about a repository, so that it is more than one of a registry on loopback.
func (p *Policy) Names(ref oci.Ref) bool {
	_, named := p.named(ref)
	return named
}

// named returns the first rule that is about a repository.
func (p *Policy) named(ref oci.Ref) (Rule, bool) {
	if p != nil && ref.Kind == oci.Registry {
		for _, r := range p.rules {
			if r.covers(ref) {
				return r, true
			}
		}
	}
	return Rule{}, false
}

// rule returns the rule that decides about a repository.
func (p *Policy) rule(ref oci.Ref) (Rule, error) {
	if r, named := p.named(ref); named {
		return r, nil
	}
	if ref.Loopback() {
		return Rule{}, nil
	}
	return Rule{}, fmt.Errorf("%s/%s is not trusted: name it in the configuration (repositories in [trust]) if nobody can push there who must not decide what images show, or demand signatures (keys)",
		ref.Host, ref.Repository)
}

// Check is an [artifact.Accept]: it says why an artifact is not trusted, or nil.
func (p *Policy) Check(ctx context.Context, c artifact.Candidate) error {
	r, err := p.rule(c.Ref)
	if err != nil {
		return err
	}
	by := ""
	if len(r.Keys) > 0 {
		if by, err = r.signedBy(ctx, c); err != nil {
			return err
		}
	}
	if len(r.Command) > 0 {
		return p.ask(ctx, r.Command, newQuestion(c, by))
	}
	return nil
}

// signedBy returns the file with the key that an artifact is signed with. The keys are read each time: who takes one away need not tell the daemon.
func (r Rule) signedBy(ctx context.Context, c artifact.Candidate) (string, error) {
	if c.Place.Repository == nil {
		return "", errors.New("signatures are in registries only")
	}
	keys, keysErr := signature.ReadPublicKeys(r.Keys)
	if len(keys) == 0 {
		return "", fmt.Errorf("no key is there that it could be signed with: %w", keysErr)
	}
	by, err := signature.Verify(ctx, c.Place.Repository, c.Manifest, keys)
	if errors.Is(err, signature.ErrUnsigned) {
		err = fmt.Errorf("%w; keys in [trust] demand a signature by one of %s: sign it (pagein sign --key, or pagein convert --sign-key)", err, strings.Join(r.Keys, ", "))
	}
	if err != nil && keysErr != nil {
		return "", fmt.Errorf("%w (not all keys could be read: %w)", err, keysErr)
	}
	return by.Name, err
}
