package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
)

const (
	// helperPatience is how long a credential helper may take: some ask a cloud.
	helperPatience = 15 * time.Second
	// maxHelperOutput bounds what a helper may print, in bytes.
	maxHelperOutput = 1 << 20
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
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer for %s", patience))
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "get") // #nosec G204 -- the administrator named it
	cmd.Stdin = strings.NewReader(server)
	cmd.Stdout = &limitedWriter{w: &out, left: maxHelperOutput}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for whoever left the group and holds the pipe
	err := cmd.Run()
	if ctx.Err() != nil {
		return wrap(context.Cause(ctx))
	}
	if err != nil {
		said := strings.TrimSpace(out.String())
		if strings.Contains(said, "credentials not found in native keychain") {
			return auth.EmptyCredential, nil
		}
		return wrap(errors.Join(err, sayIt(said)))
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
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

// limitedWriter refuses what is too much.
type limitedWriter struct {
	w    io.Writer
	left int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, errors.New("it prints too much")
	}
	l.left -= len(p)
	return l.w.Write(p)
}
