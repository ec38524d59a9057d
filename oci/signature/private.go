package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

// PrivateKey signs.
type PrivateKey struct {
	signer crypto.Signer
	public PublicKey
}

// ErrPassword says that a key needs another password.
var ErrPassword = errors.New("the password is wrong")

// ReadPrivateKey reads a key in PEM: PKCS #8 or SEC 1 as openssl writes them, or one of "cosign generate-key-pair", for which password is asked. The key is ECDSA on P-256 or Ed25519.
func ReadPrivateKey(file string, password func() ([]byte, error)) (*PrivateKey, error) {
	text, err := readKey(file)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	k, err := parsePrivateKey(file, text, password)
	if err != nil {
		return nil, fmt.Errorf("private key %s: %w", file, err)
	}
	return k, nil
}

func parsePrivateKey(name string, text []byte, password func() ([]byte, error)) (*PrivateKey, error) {
	block, rest := pem.Decode(text)
	if block != nil && block.Type == "EC PARAMETERS" { // openssl ecparam -genkey puts them before the key
		block, _ = pem.Decode(rest)
	}
	if block == nil {
		return nil, errors.New("it is no PEM file")
	}
	key, err := decode(block, password)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("it is a %T; use ECDSA on P-256 or Ed25519", key)
	}
	if err := usable(signer.Public()); err != nil {
		return nil, err
	}
	return &PrivateKey{signer: signer, public: PublicKey{Name: name, key: signer.Public()}}, nil
}

// decode reads the kinds of private keys that there are.
func decode(block *pem.Block, password func() ([]byte, error)) (any, error) {
	switch block.Type {
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		if block.Headers["DEK-Info"] == "" {
			return x509.ParseECPrivateKey(block.Bytes)
		}
	case "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
		secret, err := password()
		if err != nil {
			return nil, err
		}
		plain, err := encrypted.Decrypt(block.Bytes, secret)
		if err != nil {
			return nil, fmt.Errorf("%w (%w)", ErrPassword, err)
		}
		return x509.ParsePKCS8PrivateKey(plain)
	case "ENCRYPTED PRIVATE KEY":
	default:
		return nil, fmt.Errorf("its PEM type is %q; PRIVATE KEY, EC PRIVATE KEY and ENCRYPTED SIGSTORE PRIVATE KEY are known", block.Type)
	}
	return nil, errors.New(`openssl encrypted it, which is not supported: decrypt it ("openssl pkey"), or use a key of "cosign generate-key-pair"`)
}

// Public is the key that verifies what this one signs.
func (k *PrivateKey) Public() PublicKey { return k.public }

// sign signs a message.
func (k *PrivateKey) sign(message []byte) ([]byte, error) {
	switch k.public.key.(type) {
	case ed25519.PublicKey:
		return k.signer.Sign(rand.Reader, message, crypto.Hash(0))
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(message)
		return k.signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	}
	return nil, fmt.Errorf("sign with a %T: not supported", k.signer)
}
