package trust

import (
	"fmt"
	"net"
	"path"
	"slices"
	"strings"

	"github.com/pagein/pagein/oci"
)

// checkPattern refuses what is no pattern for repositories, and what no repository can match: a rule that demands something, and is silently about nothing, would leave its repositories to
// the next one.
func checkPattern(p string) error {
	host, repository, both := strings.Cut(p, "/")
	switch {
	case host == "":
		return fmt.Errorf("trusted repository %q names no registry: write HOST or HOST/REPOSITORY", p)
	case strings.Contains(p, "://"):
		return fmt.Errorf("trusted repository %q is a URL: write HOST or HOST/REPOSITORY", p)
	case both && slices.Contains(strings.Split(repository, "/"), ""):
		return fmt.Errorf("trusted repository %q has an empty element, which none has", p)
	case strings.ContainsAny(repository, ":@") || strings.ToLower(repository) != repository:
		return fmt.Errorf("trusted repository %q: %q is the name of none: there are no tags, digests and capital letters in it", p, repository)
	case strings.Contains(strings.TrimSuffix("/"+repository, "/**"), "**"):
		return fmt.Errorf("trusted repository %q: ** stands for all that is below, so it is the whole last element or none", p)
	}
	if _, err := path.Match(literal(p), ""); err != nil {
		return fmt.Errorf("trusted repository %q: %w", p, err)
	}
	return nil
}

// literal makes of a pattern that begins with an IPv6 address in brackets one that does not take them for a choice of letters.
func literal(pattern string) string {
	if address, _, ok := strings.Cut(strings.TrimPrefix(pattern, "["), "]"); ok && pattern[0] == '[' && net.ParseIP(address) != nil {
		return `\` + pattern
	}
	return pattern
}

// covers reports whether the rule is about the repository that ref names.
func (r Rule) covers(ref oci.Ref) bool {
	return len(r.Repositories) == 0 || slices.ContainsFunc(r.Repositories, func(p string) bool { return matches(p, ref.Host, ref.Repository) })
}

// matches reports whether a checked pattern names a repository: HOST or HOST/REPOSITORY with the wildcards of [path.Match] in either part; "*" stands for no "/", a last element "**"
// for everything below. A HOST by itself names all of its repositories. Names of hosts have no case.
func matches(pattern, host, repository string) bool {
	hostPattern, repositoryPattern, both := strings.Cut(pattern, "/")
	if ok, err := path.Match(literal(strings.ToLower(hostPattern)), strings.ToLower(host)); !ok || err != nil {
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
