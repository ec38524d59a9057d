package signature

import (
	"testing"

	"github.com/opencontainers/go-digest"
)

// FuzzSigned reads payloads, statements and bundles as somebody who signed them may have made them. They are about a digest only if they name it.
func FuzzSigned(f *testing.F) {
	d := digest.FromString("manifest")
	right, err := newPayload("x/y", d)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(right)
	f.Add([]byte(`{"predicateType":"` + predicateSigned + `","subject":[{"digest":{"sha256":"` + d.Encoded() + `"}}]}`))
	f.Add([]byte(`{"dsseEnvelope":{"payload":"e30=","payloadType":"` + statementType + `","signatures":[{"sig":"AAAA"}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		other := digest.FromString("another manifest")
		if payloadSays(b, d) == nil && payloadSays(b, other) == nil {
			t.Error("one payload is about two digests")
		}
		if err := statementSays(b, d); err == nil && statementSays(b, digest.Digest("sha512:"+d.Encoded())) == nil {
			t.Error("one statement is about a digest of two algorithms")
		}
		if _, err := verifyBundle(b, d, nil); err == nil {
			t.Error("a bundle verifies without keys")
		}
	})
}
