package signature

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// payloadType is the only type of payload that cosign makes and accepts for images.
const payloadType = "cosign container image signature"

// payload is what is signed: https://github.com/containers/image/blob/main/docs/containers-signature.5.md, as far as it counts.
type payload struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference"` // where it was when it was signed; copies have the same signature
		} `json:"identity"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]any `json:"optional"`
}

// newPayload says that a manifest is signed.
func newPayload(reference string, d digest.Digest) ([]byte, error) {
	var p payload
	p.Critical.Identity.Reference, p.Critical.Image.Digest, p.Critical.Type = reference, d.String(), payloadType
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("write what is to be signed: %w", err)
	}
	return b, nil
}

// payloadSays checks that a signed payload is about a manifest.
func payloadSays(b []byte, d digest.Digest) error {
	var p payload
	if err := json.Unmarshal(b, &p); err != nil {
		return fmt.Errorf("read what is signed: %w", err)
	}
	if p.Critical.Type != payloadType {
		return fmt.Errorf("what is signed is %q, not %q", p.Critical.Type, payloadType)
	}
	return about(p.Critical.Image.Digest, d)
}

func about(signed string, d digest.Digest) error {
	if signed == "" {
		return errors.New("what is signed names no digest")
	}
	if signed != d.String() {
		return fmt.Errorf("what is signed is %q", signed)
	}
	return nil
}
