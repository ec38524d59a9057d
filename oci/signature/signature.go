// Package signature signs manifests in registries and verifies such signatures, in the formats that cosign has: a "simple signing" payload under the tag sha256-HEX.sig, which is what
// [Sign] writes, and sigstore bundles that refer to the manifest.
//
// It knows keys and registries and nothing of what is signed, which is a digest. It asks nobody but the registry: certificates, transparency logs and time stamps count for
// nothing here, only who holds which key. The one idea to hold in mind: all that is read here is from people who hold no key, until one signature over the very bytes that are then parsed has been
// verified.
package signature

import (
	"errors"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Types of what is stored in registries, as cosign has them.
const (
	typeSignatures = "application/vnd.dev.cosign.artifact.sig.v1+json" // artifactType of a manifest whose layers are payloads
	typePayload    = "application/vnd.dev.cosign.simplesigning.v1+json"
	typeBundle     = "application/vnd.dev.sigstore.bundle.v0.3+json" // of a manifest, and of its one layer

	// annotation of a payload's layer has the signature in base64.
	annotation = "dev.cosignproject.cosign/signature"
)

// Bounds of what is read before anything is verified.
const (
	maxManifest  = 256 << 10 // bytes of a manifest
	maxPayload   = 64 << 10  // bytes of a payload
	maxBundle    = 256 << 10 // bytes of a bundle, which may have certificates and proofs
	maxLayers    = 32        // signatures in a manifest; later ones do not count
	maxReferrers = 16        // manifests that refer to what is signed; earlier ones do not count
)

// ErrUnsigned says that there is no signature by the keys that were asked for.
var ErrUnsigned = errors.New("not signed")

// Tag is the tag of the manifest with the signatures of a digest.
func Tag(d digest.Digest) string { return strings.Replace(d.String(), ":", "-", 1) + ".sig" }
