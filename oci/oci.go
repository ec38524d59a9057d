// Package oci knows how images and artifacts are named on the command line and in requests: [ParseRef]. Its sub-packages get at them:
// layout reads and writes image layouts on disk, registry talks to registries, artifact knows the manifest that carries a metadata image
// and blobs, convert makes one out of an image.
package oci

import (
	_ "crypto/sha256" // go-digest can only use algorithms that are linked in
	_ "crypto/sha512"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// Kind says what a reference points at.
type Kind int

const (
	Layout   Kind = iota + 1 // an image in an OCI image layout: oci:DIR[:TAG][@DIGEST]
	Dir                      // a directory tree: dir:PATH
	Tar                      // a tar stream: tar:PATH, "-" is standard input
	Registry                 // an image in a registry: HOST/REPOSITORY[:TAG][@DIGEST]
	EROFS                    // an EROFS image file and the files of its devices: erofs:FILE[,DEVICE...]
)

// DefaultTag is the tag that is meant when a reference names neither tag nor digest.
const DefaultTag = "latest"

// Ref is a parsed reference.
type Ref struct {
	Kind       Kind
	Path       string        // Layout, Dir, Tar; EROFS: with the devices, see Files
	Host       string        // Registry: host[:port]
	Repository string        // Registry
	Tag        string        // Layout, Registry; may be empty
	Digest     digest.Digest // Layout, Registry; may be empty; wins over the tag
}

// anchored forms of the reference grammar
var (
	tagForm    = regexp.MustCompile(`^` + reference.TagRegexp.String() + `$`)
	serverForm = regexp.MustCompile(`^(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+)$`)
	portForm   = regexp.MustCompile(`^[0-9]{2,5}$`)
	schemeForm = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://`)
)

// ParseRef reads what a user wrote. A colon in the last element of a layout's path begins a tag; "oci:a:b/" is the directory "a:b". Short
// registry names are completed as Docker does: "alpine" is docker.io/library/alpine.
func ParseRef(s string) (Ref, error) {
	r, err := parseRef(s)
	if err != nil {
		return Ref{}, fmt.Errorf("parse reference %q: %w", s, err)
	}
	return r, nil
}

func parseRef(s string) (Ref, error) {
	scheme, rest, _ := strings.Cut(s, ":")
	switch {
	case s == "":
		return Ref{}, errors.New("it is empty")
	case schemeForm.MatchString(s):
		return Ref{}, errors.New("it is a URL; write HOST/REPOSITORY[:TAG], and --plain-http for a registry without TLS")
	case scheme == "oci":
		return parseLayout(rest)
	case scheme == "dir" && rest != "":
		return Ref{Kind: Dir, Path: rest}, nil
	case scheme == "tar" && rest != "":
		return Ref{Kind: Tar, Path: rest}, nil
	case scheme == "erofs" && !slices.Contains(strings.Split(rest, ","), ""):
		return Ref{Kind: EROFS, Path: rest}, nil
	case scheme == "dir", scheme == "tar", scheme == "erofs":
		return Ref{}, fmt.Errorf("no path after %q", scheme+":")
	}
	return parseRegistry(s)
}

func parseLayout(s string) (Ref, error) {
	r := Ref{Kind: Layout, Path: s}
	if path, d, ok := strings.Cut(s, "@sha256:"); ok {
		r.Path, r.Digest = path, digest.Digest("sha256:"+d)
		if err := r.Digest.Validate(); err != nil {
			return Ref{}, fmt.Errorf("digest %s: %w", r.Digest, err)
		}
	}
	if i := strings.LastIndexByte(r.Path, ':'); i >= 0 && !strings.Contains(r.Path[i:], "/") {
		r.Path, r.Tag = r.Path[:i], r.Path[i+1:]
		if !tagForm.MatchString(r.Tag) {
			return Ref{}, fmt.Errorf("%q is no tag: up to 128 letters, digits and _.- are allowed", r.Tag)
		}
	}
	if r.Path == "" {
		return Ref{}, errors.New("no directory after \"oci:\"")
	}
	r.Path = filepath.Clean(r.Path)
	return r, nil
}

func parseRegistry(s string) (Ref, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return Ref{}, fmt.Errorf("%w; write HOST/REPOSITORY[:TAG], or oci:DIR[:TAG] for a directory", err)
	}
	if host, port, ok := strings.Cut(s, ":"); ok && serverForm.MatchString(host) && portForm.MatchString(port) {
		return Ref{}, fmt.Errorf("no repository after the registry; write %s/REPOSITORY[:TAG]", s)
	}
	r := Ref{Kind: Registry, Host: reference.Domain(named), Repository: reference.Path(named)}
	if t, ok := named.(reference.Tagged); ok {
		r.Tag = t.Tag()
	}
	if d, ok := named.(reference.Digested); ok {
		r.Digest = d.Digest()
	}
	return r, nil
}

// String writes the reference so that ParseRef reads the same one again.
func (r Ref) String() string {
	var b strings.Builder
	switch r.Kind {
	case Dir:
		return "dir:" + r.Path
	case Tar:
		return "tar:" + r.Path
	case EROFS:
		return "erofs:" + r.Path
	case Layout:
		b.WriteString("oci:" + r.Path)
		// The path's end must not read as a tag, nor with the tag as a digest.
		if r.Tag == "" && strings.Contains(filepath.Base(r.Path), ":") || r.Tag != "" && strings.HasSuffix(r.Path, "@sha256") {
			b.WriteByte('/')
		}
	default:
		b.WriteString(r.Host + "/" + r.Repository)
	}
	if r.Tag != "" {
		b.WriteString(":" + r.Tag)
	}
	if r.Digest != "" {
		b.WriteString("@" + r.Digest.String())
	}
	return b.String()
}

// Reference is what to resolve in the layout or repository: the digest, the tag, or [DefaultTag].
func (r Ref) Reference() string {
	switch {
	case r.Digest != "":
		return r.Digest.String()
	case r.Tag != "":
		return r.Tag
	}
	return DefaultTag
}

// Absolute returns the reference with an absolute path, to be sent to a process with another working directory. Standard input stays as
// it is.
func (r Ref) Absolute() (Ref, error) {
	if r.Kind == Registry || r.Kind == Tar && r.Path == "-" {
		return r, nil
	}
	files := r.Files()
	for i, f := range files {
		path, err := filepath.Abs(f)
		if err != nil {
			return Ref{}, fmt.Errorf("make %s absolute: %w", r, err)
		}
		files[i] = path
	}
	r.Path = strings.Join(files, ",")
	return r, nil
}

// Files are the paths in the reference: the image and its devices of an EROFS image, else the one path there is.
func (r Ref) Files() []string {
	if r.Kind == EROFS {
		return strings.Split(r.Path, ",")
	}
	return []string{r.Path}
}

// Loopback reports whether the registry runs on this machine, as its name says. Such registries are spoken to over plain HTTP unless
// the port is 443.
func (r Ref) Loopback() bool {
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]")
	}
	if r.Kind != Registry || port == "443" {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
