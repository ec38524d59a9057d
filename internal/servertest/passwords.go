package servertest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Passwords is a file of user names and passwords, as htpasswd makes it.
type Passwords struct {
	t       testing.TB
	path    string
	changed time.Time
}

// NewPasswords makes a file with the password of the user "me".
func NewPasswords(t testing.TB, password string) *Passwords {
	t.Helper()
	p := &Passwords{t: t, path: filepath.Join(t.TempDir(), "htpasswd"), changed: time.Now()}
	p.Set(password)
	return p
}

// Set changes the password.
func (p *Passwords) Set(password string) {
	p.t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		p.t.Fatal(err)
	}
	next := writeFile(p.t, p.path+".new", "me:"+string(hash)+"\n")
	p.changed = p.changed.Add(time.Second) // servers look at the time
	if err := os.Chtimes(next, p.changed, p.changed); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(next, p.path); err != nil {
		p.t.Fatal(err)
	}
}
