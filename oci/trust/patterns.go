package snapshotter

import (
	"fmt"
	"path"
	"strings"

	"github.com/pagein/pagein/oci"
)

// Trust says of which repositories artifacts may stand for layers. containerd knows a layer by its chain ID and proves it when it unpacks it; a layer that is not fetched is believed. It
// then serves every image that has it, so who may push a lying artifact to a trusted repository decides what other images show. Nil trusts registries on loopback only.
type Trust struct {
	patterns []string
}

// NewTrust trusts registries on loopback and the repositories that patterns name, each HOST or HOST/REPOSITORY with the wildcards of [path.Match] in either part; "*" stands for
// no "/", a last element "**" for everything below. A HOST by itself trusts all of its repositories.
func NewTrust(patterns []string) (*Trust, error) {
	for _, p := range patterns {
		if host, _, _ := strings.Cut(p, "/"); host == "" {
			return nil, fmt.Errorf("trusted repository %q names no registry: write HOST or HOST/REPOSITORY", p)
		}
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("trusted repository %q: %w", p, err)
		}
	}
	return &Trust{patterns: patterns}, nil
}

// Check returns nil if artifacts of the repository that ref names are trusted.
func (t *Trust) Check(ref oci.Ref) error {
	if ref.Loopback() || t.matches(ref) {
		return nil
	}
	return fmt.Errorf("%s/%s is not trusted: name it in the configuration (repositories in [trust]) if nobody can push there who must not decide what images show", ref.Host, ref.Repository)
}

func (t *Trust) matches(ref oci.Ref) bool {
	if t == nil || ref.Kind != oci.Registry {
		return false
	}
	for _, p := range t.patterns {
		if matches(p, ref.Host, ref.Repository) {
			return true
		}
	}
	return false
}

// matches reports whether a checked pattern names a repository.
func matches(pattern, host, repository string) bool {
	hostPattern, repositoryPattern, both := strings.Cut(pattern, "/")
	if ok, err := path.Match(hostPattern, host); !ok || err != nil {
		return false
	}
	if !both {
		return true
	}
	if parent, all := strings.CutSuffix(repositoryPattern, "**"); all {
		n := strings.Count(parent, "/")
		elements := strings.SplitAfter(repository, "/")
		if len(elements) <= n {
			return false
		}
		repository, repositoryPattern = strings.Join(elements[:n], ""), parent
	}
	ok, err := path.Match(repositoryPattern, repository)
	return ok && err == nil
}
