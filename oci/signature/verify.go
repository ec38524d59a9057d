package signature

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/oci/registry"
)

// errForeign says that a signature is by nobody whose key is known.
var errForeign = errors.New("it is by no key that is trusted")

// Verify returns one of the keys whose holder signed a manifest. If there is none, the error is [ErrUnsigned] and says how it failed, be it that the registry does not give out the
// signatures that have the tag; if it does not list what refers to the manifest, the error is another one.
func Verify(ctx context.Context, repo *registry.Repository, signed ocispec.Descriptor, keys []PublicKey) (PublicKey, error) {
	v := verifier{repo: repo, signed: signed, keys: keys}
	// Both places are asked at the same time: who waits for a signature waits for a container.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make(chan listed, 1)
	go func() {
		list, err := referrers(ctx, repo, signed)
		found <- listed{list, err}
	}()
	tag, err := tagged(ctx, repo, signed)
	if err != nil {
		v.failed = append(v.failed, err)
	}
	if tag != nil && v.manifest(ctx, tag) {
		cancel()
		<-found
		return v.by, nil
	}
	refer := <-found
	if refer.err != nil {
		return PublicKey{}, refer.err
	}
	for _, desc := range slices.Backward(refer.list) {
		if tag != nil && desc.Digest == tag.Descriptor.Digest {
			continue
		}
		s, err := referring(ctx, repo, desc)
		if err != nil {
			v.failed = append(v.failed, err)
			continue
		}
		if v.manifest(ctx, s) {
			return v.by, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return PublicKey{}, fmt.Errorf("look for signatures of %s@%s: %w", repo, signed.Digest, err)
	}
	return PublicKey{}, v.reason()
}

// listed is what refers to a manifest, or why that is not known.
type listed struct {
	list []ocispec.Descriptor
	err  error
}

// verifier looks for a signature in one place after the other.
type verifier struct {
	repo   *registry.Repository
	signed ocispec.Descriptor
	keys   []PublicKey

	by      PublicKey // who signed
	foreign int       // signatures by others
	failed  []error   // of signatures that are none
}

// manifest reports whether a manifest has a signature.
func (v *verifier) manifest(ctx context.Context, s *signatures) bool {
	for _, layer := range s.Layers {
		by, err := verifyLayer(ctx, v.repo, layer, v.signed, v.keys)
		switch {
		case err == nil:
			v.by = by
			return true
		case errors.Is(err, errForeign):
			v.foreign++
		case !errors.Is(err, errOther):
			v.failed = append(v.failed, err)
		}
	}
	return false
}

// reason says why there is no signature.
func (v *verifier) reason() error {
	switch {
	case len(v.failed) > 0:
		return fmt.Errorf("%w by a trusted key: %w", ErrUnsigned, v.failed[0])
	case v.foreign > 0:
		var names []string
		for _, k := range v.keys {
			names = append(names, k.Name)
		}
		return fmt.Errorf("%w by a trusted key, but by %s (trusted are %s)", ErrUnsigned, others(v.foreign), strings.Join(names, ", "))
	}
	return fmt.Errorf("%w at all", ErrUnsigned)
}

// others counts keys that are not trusted.
func others(n int) string {
	if n == 1 {
		return "1 other key"
	}
	return fmt.Sprintf("%d other keys", n)
}

// errOther says that a layer is no signature.
var errOther = errors.New("it is no signature")

// verifyLayer returns which of the keys' holders signed a manifest, as a layer says.
func verifyLayer(ctx context.Context, repo *registry.Repository, layer, signed ocispec.Descriptor, keys []PublicKey) (PublicKey, error) {
	switch layer.MediaType {
	case typePayload:
		sig, err := base64.StdEncoding.DecodeString(layer.Annotations[annotation])
		if err != nil || len(sig) == 0 {
			return PublicKey{}, fmt.Errorf("payload %s has no signature in base64 as annotation %s", layer.Digest, annotation)
		}
		b, err := fetch(ctx, repo, layer, maxPayload)
		if err != nil {
			return PublicKey{}, err
		}
		i := slices.IndexFunc(keys, func(k PublicKey) bool { return k.verify(b, sig) })
		if i < 0 {
			return PublicKey{}, errForeign
		}
		return keys[i], payloadSays(b, signed.Digest)
	case typeBundle:
		b, err := fetch(ctx, repo, layer, maxBundle)
		if err != nil {
			return PublicKey{}, err
		}
		return verifyBundle(b, signed.Digest, keys)
	}
	return PublicKey{}, errOther
}
