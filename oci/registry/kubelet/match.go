package kubelet

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/pagein/pagein/oci/registry"
)

// matches reports whether a pattern is for an image, by kubelet's rules: the host must have as many parts between dots as the pattern, each of which may have wildcards; ports must be
// equal; and the path must begin with that of the pattern.
func matches(pattern, image string) (bool, error) {
	want, err := url.Parse("https://" + pattern)
	if err != nil {
		return false, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	have, err := url.Parse("https://" + image)
	if err != nil {
		return false, fmt.Errorf("image %q: %w", image, err)
	}
	wantHost, wantPort := split(want.Host)
	haveHost, havePort := split(have.Host)
	same := wantPort == havePort && len(wantHost) == len(haveHost) && strings.HasPrefix(have.Path, want.Path)
	for i, part := range wantHost {
		with := ""
		if same {
			with = haveHost[i]
		}
		ok, err := path.Match(part, with)
		if err != nil {
			return false, fmt.Errorf("pattern %q: %w", pattern, err)
		}
		same = same && ok
	}
	return same, nil
}

// split takes a host into its parts between dots, and its port.
func split(host string) (parts []string, port string) {
	if name, p, err := net.SplitHostPort(host); err == nil {
		host, port = name, p
	}
	return strings.Split(host, "."), port
}

// choose returns what a plugin gave for an image: of all patterns that match, the last one counts in the order of bytes, which is the most particular one.
func choose(logins map[string]login, image string) (registry.Credential, bool) {
	for _, pattern := range slices.Backward(slices.Sorted(maps.Keys(logins))) {
		if ok, err := matches(pattern, image); err == nil && ok {
			l := logins[pattern]
			return registry.Credential{Username: l.Username, Password: l.Password}, l != login{}
		}
	}
	return registry.Credential{}, false
}
