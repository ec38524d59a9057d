package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

// noPassword is for keys that need none.
func noPassword() ([]byte, error) { return nil, errors.New("somebody asks for a password") }

func inPEM(t testing.TB, kind string, der []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// newKeys are new keys of both kinds.
func newKeys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"ECDSA": ec, "Ed25519": ed}
}

func privatePEM(t testing.TB, key crypto.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return inPEM(t, "PRIVATE KEY", der, err)
}

func publicPEM(t testing.TB, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	return inPEM(t, "PUBLIC KEY", der, err)
}

func TestKeysOfAllFormsSignAndVerify(t *testing.T) {
	for name, signer := range newKeys(t) {
		der, err := x509.MarshalPKCS8PrivateKey(signer)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := encrypted.Encrypt(der, []byte("secret"))
		forms := map[string][]byte{"PKCS #8": privatePEM(t, signer), "cosign": inPEM(t, "ENCRYPTED SIGSTORE PRIVATE KEY", sealed, err)}
		if ec, ok := signer.(*ecdsa.PrivateKey); ok {
			der, err := x509.MarshalECPrivateKey(ec)
			forms["SEC 1"] = append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), inPEM(t, "EC PRIVATE KEY", der, err)...)
		}
		public, err := ParsePublicKey("key.pub", publicPEM(t, signer.Public()))
		if err != nil {
			t.Fatal(err)
		}
		for form, text := range forms {
			key, err := parsePrivateKey("key", text, func() ([]byte, error) { return []byte("secret"), nil })
			if err != nil {
				t.Errorf("%s, %s: %v", name, form, err)
				continue
			}
			sig, err := key.sign([]byte("message"))
			if err != nil || !public.verify([]byte("message"), sig) || !key.Public().verify([]byte("message"), sig) {
				t.Errorf("%s, %s: what it signs does not verify (%v)", name, form, err)
			}
			sig[len(sig)/2] ^= 1
			if public.verify([]byte("message"), sig) || public.verify([]byte("massage"), sig) {
				t.Errorf("%s, %s: what it did not sign verifies", name, form)
			}
		}
	}
}

func TestUnusableKeysAreRefusedWithTheReason(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := newKeys(t)["ECDSA"]
	der, err := x509.MarshalPKCS8PrivateKey(good)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := encrypted.Encrypt(der, []byte("secret"))
	for want, text := range map[string][]byte{
		"P-384; use P-256":        publicPEM(t, p384.Public()),
		"rsa.PublicKey; use ECDS": publicPEM(t, rsaKey.Public()),
		"no public key":           privatePEM(t, good),
		"must begin with":         []byte("ssh-ed25519 AAAA"),
		"asn1":                    inPEM(t, "PUBLIC KEY", []byte("x"), nil),
	} {
		if _, err := ParsePublicKey("key.pub", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
	for want, text := range map[string][]byte{
		"P-384; use P-256":         privatePEM(t, p384),
		"rsa.PublicKey; use ECDSA": privatePEM(t, rsaKey),
		`PEM type is "PUBLIC KEY"`: publicPEM(t, good.Public()),
		"no PEM file":              []byte("x"),
		"somebody asks":            inPEM(t, "ENCRYPTED SIGSTORE PRIVATE KEY", sealed, err),
		"decrypt it":               inPEM(t, "ENCRYPTED PRIVATE KEY", []byte("x"), nil),
	} {
		if _, err := parsePrivateKey("key", text, noPassword); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
	_, err = parsePrivateKey("key", inPEM(t, "ENCRYPTED SIGSTORE PRIVATE KEY", sealed, nil), func() ([]byte, error) { return []byte("guess"), nil })
	if !errors.Is(err, ErrPassword) {
		t.Errorf("error is %v", err)
	}
}

func TestOneBadKeyDoesNotHideTheOthers(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string][]byte{"a.pub": publicPEM(t, newKeys(t)["ECDSA"].Public()), "b.pub": []byte("x"), "c.pub": make([]byte, maxKeyFile+1)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := ReadPublicKeys([]string{filepath.Join(dir, "*.pub"), filepath.Join(dir, "none"), "["})
	if len(keys) != 1 || keys[0].Name != filepath.Join(dir, "a.pub") {
		t.Errorf("keys are %v", keys)
	}
	for _, want := range []string{"b.pub is no public key", "c.pub has more than", "no such file", "syntax error"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}
