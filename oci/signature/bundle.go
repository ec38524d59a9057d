package signature

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
)

const (
	statementType = "application/vnd.in-toto+json"
	// predicateSigned is what "cosign sign" states. Whoever attests something else about an image, such as what is in it, does not vouch for it.
	predicateSigned = "https://sigstore.dev/cosign/sign/v1"
	// maxSigners bounds the signatures of one statement that are verified.
	maxSigners = 8
)

// bundle is a sigstore bundle (https://github.com/sigstore/protobuf-specs, version 0.3) as far as it counts with keys that are known: a DSSE envelope.
type bundle struct {
	Envelope *struct {
		Payload    []byte `json:"payload"`
		Type       string `json:"payloadType"`
		Signatures []struct {
			Sig []byte `json:"sig"`
		} `json:"signatures"`
	} `json:"dsseEnvelope"`
}

// statement is an in-toto statement, of version 0.1 or 1.
type statement struct {
	Predicate string `json:"predicateType"`
	Subject   []struct {
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
}

// verifyBundle returns which of the keys' holders signed a manifest, as a bundle says.
func verifyBundle(b []byte, d digest.Digest, keys []PublicKey) (PublicKey, error) {
	var env bundle
	if err := json.Unmarshal(b, &env); err != nil {
		return PublicKey{}, fmt.Errorf("read bundle: %w", err)
	}
	e := env.Envelope
	if e == nil || e.Type != statementType {
		return PublicKey{}, errors.New("the bundle has no statement")
	}
	// https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md#signature-definition
	message := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.Type), e.Type, len(e.Payload), e.Payload)
	for _, s := range e.Signatures[:min(len(e.Signatures), maxSigners)] {
		i := slices.IndexFunc(keys, func(k PublicKey) bool { return k.verify(message, s.Sig) })
		if i >= 0 {
			return keys[i], statementSays(e.Payload, d)
		}
	}
	return PublicKey{}, errForeign
}

// statementSays checks that a signed statement is about a manifest.
func statementSays(b []byte, d digest.Digest) error {
	var s statement
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("read what is signed: %w", err)
	}
	if s.Predicate != predicateSigned {
		return fmt.Errorf("what is signed is %q, not %q", s.Predicate, predicateSigned)
	}
	err := errors.New("what is signed names no digest")
	for _, subject := range s.Subject {
		if err = about(d.Algorithm().String()+":"+subject.Digest[d.Algorithm().String()], d); err == nil {
			return nil
		}
	}
	return err
}
