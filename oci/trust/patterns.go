package trust

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/pagein/pagein/oci"
)

// checkPattern refuses what is no pattern for repositories.
func checkPattern(p string) error {
	if host, _, _ := strings.Cut(p, "/"); host == "" {
		return fmt.Errorf("trusted repository %q names no registry: write HOST or HOST/REPOSITORY", p)
	}
	if _, err := path.Match(p, ""); err != nil {
		return fmt.Errorf("trusted repository %q: %w", p, err)
	}
	return nil
}

// covers reports whether the rule is about the repository that ref names.
func (r Rule) covers(ref oci.Ref) bool {
	return len(r.Repositories) == 0 || slices.ContainsFunc(r.Repositories, func(p string) bool { return matches(p, ref.Host, ref.Repository) })
}

// matches reports whether a checked pattern names a repository: HOST or HOST/REPOSITORY with the wildcards of [path.Match] in either part; "*" stands for no "/", a last element "**"
// for everything below. A HOST by itself names all of its repositories.
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
