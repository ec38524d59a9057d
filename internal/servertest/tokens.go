package servertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	tokenService = "registry.test"
	tokenIssuer  = "tokens.test"
)

// TokenServer gives tokens for a registry to who has the right password, as docs/spec/auth of distribution describes it.
type TokenServer struct {
	URL string

	key         *ecdsa.PrivateKey
	der         []byte
	certificate string // PEM

	mu       sync.Mutex
	password string
	life     time.Duration
	asked    int
}

// NewTokenServer starts a token server. The user's name is "me".
func NewTokenServer(t testing.TB, password string) *TokenServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: tokenIssuer}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	s := &TokenServer{key: key, der: der, password: password, life: time.Minute}
	s.certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.URL = srv.URL + "/token"
	return s
}

// Set changes the password that is right from now on, and how long tokens live from now on. Tokens may be used a minute longer than they live, as registries allow for
// clocks that differ.
func (s *TokenServer) Set(password string, life time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.password, s.life = password, life
}

// Asked is how many tokens were given.
func (s *TokenServer) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// ServeHTTP implements http.Handler.
func (s *TokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if user, pass, ok := r.BasicAuth(); !ok || user != "me" || pass != s.password {
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}`, http.StatusUnauthorized)
		return
	}
	s.asked++
	token, err := s.token(r.URL.Query()["scope"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": int(s.life / time.Second)})
}

// token signs a JSON web token for scopes of the form repository:NAME:ACTIONS.
func (s *TokenServer) token(scopes []string) (string, error) {
	type access struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	}
	grants := []access{}
	for _, scope := range scopes {
		if parts := strings.Split(scope, ":"); len(parts) == 3 {
			grants = append(grants, access{parts[0], parts[1], strings.Split(parts[2], ",")})
		}
	}
	now := time.Now()
	var parts []string
	for _, v := range []any{
		map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(s.der)}},
		map[string]any{
			"iss": tokenIssuer, "sub": "me", "aud": tokenService, "iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(s.life).Unix(),
			"jti": fmt.Sprint(s.asked), "access": grants,
		},
	} {
		b, err := json.Marshal(v)
		if err != nil {
			return "", err
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(b))
	}
	signed := strings.Join(parts, ".")
	sum := sha256.Sum256([]byte(signed))
	a, b, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	a.FillBytes(signature[:32])
	b.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
