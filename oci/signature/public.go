package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const (
	// maxKeyFile bounds a file with a key, in bytes.
	maxKeyFile = 64 << 10
	// maxKeys bounds how many keys are trusted for one purpose.
	maxKeys = 64
)

// PublicKey verifies signatures.
type PublicKey struct {
	Name string // for messages: the file that it was read from
	key  crypto.PublicKey
}

// ParsePublicKey reads a key as openssl and cosign write it: PEM with a PKIX public key, ECDSA on P-256 or Ed25519.
func ParsePublicKey(name string, text []byte) (PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return PublicKey{}, fmt.Errorf("%s is no public key: it must begin with -----BEGIN PUBLIC KEY-----", name)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err == nil {
		err = usable(key)
	}
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key %s: %w", name, err)
	}
	return PublicKey{Name: name, key: key}, nil
}

// usable refuses keys that signatures are not made with here.
func usable(key crypto.PublicKey) error {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return nil
		}
		return fmt.Errorf("it is on curve %s; use P-256 or Ed25519", k.Curve.Params().Name)
	}
	return fmt.Errorf("it is a %T; use ECDSA on P-256 or Ed25519", key)
}

// ReadPublicKeys reads the keys in all files that the patterns of [filepath.Glob] match. Files that cannot be used are in the error, beside the keys of all others.
func ReadPublicKeys(patterns []string) ([]PublicKey, error) {
	var keys []PublicKey
	var errs []error
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil {
			errs = append(errs, fmt.Errorf("keys %q: %w", pattern, err))
		} else if len(files) == 0 {
			errs = append(errs, fmt.Errorf("keys %q: there is no such file", pattern))
		}
		for _, file := range files {
			if len(keys) == maxKeys {
				return keys, errors.Join(append(errs, fmt.Errorf("there are more than %d keys; the rest does not count", maxKeys))...)
			}
			text, err := readKey(file)
			if err != nil {
				errs = append(errs, fmt.Errorf("public key: %w", err))
				continue
			}
			key, err := ParsePublicKey(file, text)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			keys = append(keys, key)
		}
	}
	return keys, errors.Join(errs...)
}

// readKey reads a file with a key.
func readKey(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("%s has more than %d bytes, which no key has", file, maxKeyFile)
	}
	return text, err
}

// verify reports whether the key's holder signed the message.
func (k PublicKey) verify(message, sig []byte) bool {
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(message)
		return ecdsa.VerifyASN1(key, sum[:], sig)
	case ed25519.PublicKey:
		if ed25519.Verify(key, message, sig) {
			return true
		}
		sum := sha512.Sum512(message) // as signers do that have only the hash, see RFC 8032, section 5.1
		return ed25519.VerifyWithOptions(key, sum[:], sig, &ed25519.Options{Hash: crypto.SHA512}) == nil
	}
	return false
}
