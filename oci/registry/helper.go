package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pagein/pagein/internal/helper"
)

const (
	// helperPatience is how long a credential helper may take: some ask a cloud.
	helperPatience = 15 * time.Second
	// tokenUser is the user name that stands for a refresh token in the helpers' protocol.
	tokenUser = "<token>"
)

// askHelper runs docker-credential-NAME get, as Docker does, for at most the given time. A helper that hangs, or leaves a child behind that does, is killed with all it
// has started.
func askHelper(ctx context.Context, name, server string, patience time.Duration) (auth.Credential, error) {
	program := "docker-credential-" + name
	wrap := func(err error) (auth.Credential, error) {
		return auth.EmptyCredential, fmt.Errorf("ask credential helper %s for %s: %w", program, server, err)
	}
	if strings.ContainsAny(name, `/\`) {
		return wrap(errors.New("it is no program's name"))
	}
	got, err := helper.Ask(ctx, helper.Program{Path: program, Args: []string{"get"}}, []byte(server), patience)
	if err != nil {
		said := strings.TrimSpace(string(got.Out))
		if strings.Contains(said, "credentials not found in native keychain") {
			return auth.EmptyCredential, nil
		}
		return wrap(errors.Join(err, sayIt(said)))
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(got.Out, &answer); err != nil {
		return wrap(errors.New("its answer is no JSON of the protocol")) // which may hold the secret: it is not quoted
	}
	if answer.Username == tokenUser {
		return auth.Credential{RefreshToken: answer.Secret}, nil
	}
	return auth.Credential{Username: answer.Username, Password: answer.Secret}, nil
}

// sayIt makes an error of what a failing helper printed.
func sayIt(said string) error {
	if said == "" {
		return nil
	}
	return errors.New(oneLine(said))
}
