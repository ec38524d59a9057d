package trust

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/helper"
	"github.com/pagein/pagein/internal/privileges"
	"github.com/pagein/pagein/oci/artifact"
)

const (
	// childName as argv[0] makes [Init] start a command instead of returning.
	childName = "pagein-policy"
	// commandTimeout is how long a command may take. A pull waits for it.
	commandTimeout = 10 * time.Second
	// killGrace is how long whoever left the command's process group may hold its standard error open when the command has ended.
	killGrace = time.Second
	// maxCommands bounds how many commands run at the same time.
	maxCommands = 8
	// maxSaid bounds what a command can say about its reason, in bytes.
	maxSaid = 1024
	// commandPath is where commands find programs.
	commandPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// question is what a command reads from its standard input.
type question struct {
	Reference  string `json:"reference"` // of the artifact, by digest
	Registry   string `json:"registry"`
	Repository string `json:"repository"`
	Artifact   string `json:"artifact"`          // digest of the artifact's manifest
	Subject    string `json:"subject,omitempty"` // digest of the manifest of the image that it claims to be made from
	Key        string `json:"key,omitempty"`     // file with the key that verified its signature, if keys are demanded
}

func newQuestion(c artifact.Candidate, key string) question {
	q := question{Reference: c.Ref.String(), Registry: c.Ref.Host, Repository: c.Ref.Repository, Artifact: c.Manifest.Digest.String(), Key: key}
	if c.Subject != nil {
		q.Subject = c.Subject.Digest.String()
	}
	return q
}

// Init becomes the command and does not return when this process was started for one; otherwise it returns at once. Call it before anything else in main.
func Init() {
	if len(os.Args) < 2 || os.Args[0] != childName {
		return
	}
	fmt.Fprintln(os.Stderr, privileges.Exec(os.Args[1:], []string{commandPath}))
	os.Exit(1)
}

// ask runs a command and returns why it does not trust an artifact, or nil.
func (p *Policy) ask(ctx context.Context, command []string, q question) error {
	input, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("describe the artifact to %s: %w", command[0], err)
	}
	select {
	case p.commands <- struct{}{}:
		defer func() { <-p.commands }()
	case <-ctx.Done():
		return fmt.Errorf("wait for other commands to end, before %s: %w", command[0], ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	said := &head{}
	err = run(ctx, command, input, said)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("policy command %s did not answer: %w", command[0], ctx.Err())
	case said.line() != "":
		return fmt.Errorf("policy command %s (%w): %s", command[0], err, said.line())
	}
	return fmt.Errorf("policy command %s: %w", command[0], err)
}

// run runs a command without capabilities, and without an environment, in a process group of its own, which is killed when the command has answered or ctx ends. It stays on one thread because the death signal is
// tied to the thread that started the child.
func run(ctx context.Context, command []string, input []byte, said *head) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if os.Args[0] == childName {
		return errors.New("this is a policy command itself: main does not call trust.Init first")
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe") // still this program after an upgrade has replaced its file
	cmd.Args = append([]string{childName}, command...)
	cmd.Env, cmd.Dir = []string{"GOMAXPROCS=1"}, "/"
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = killGrace
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	err := helper.Run(cmd)
	if errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() {
		return nil // it has answered; who left its process group has not closed its standard error
	}
	return err
}

// head keeps the first bytes of what is written to it.
type head struct{ text []byte }

func (h *head) Write(p []byte) (int, error) {
	if room := maxSaid - len(h.text); room > 0 {
		h.text = append(h.text, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

// line is the first line, as it can be logged.
func (h *head) line() string {
	first, _, _ := strings.Cut(strings.TrimSpace(string(h.text)), "\n")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.TrimSpace(first))
}
