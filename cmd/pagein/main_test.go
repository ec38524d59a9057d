package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/snapshotter/imagestore"
)

// pagein runs the program and returns its exit status and output.
func pagein(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestExitStatusTellsWrongUsageFromFailure(t *testing.T) {
	none := "unix://" + filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		args   string
		status int
		words  string // in the one line on stderr
	}{
		{"pagein --help", 0, ""},
		{"pagein --version", 0, ""},
		{"pagein version", 0, ""},
		{"pagein version x", 2, `"x"`},
		{"pagein mount --help", 0, ""},
		{"pagein", 2, "no command"},
		{"pagein bogus", 2, `no command "bogus"`},
		{"pagein --bogus", 2, "-bogus"},
		{"pagein status --bogus", 2, "-bogus"},
		{"pagein status x", 2, `"x"`},
		{"pagein mount x", 2, "want REF and DIR"},
		{"pagein mount dir:x /y", 2, "convert it first"},
		{"pagein mount https://x/y /y", 2, "URL"},
		{"pagein mount --deadline 5 oci:x /y", 2, "30s"},
		{"pagein mount --prefetch some oci:x /y", 2, `"all"`},
		{"pagein mount --transport some oci:x /y", 2, "fanotify"},
		{"pagein prepare --deadline -5s oci:x", 2, "30s"},
		{"pagein umount", 2, "want DIR"},
		{"pagein prepare", 2, "want REF"},
		{"pagein prepare x y", 2, "want REF"},
		{"pagein completion tcsh", 2, "tcsh"},
		{"pagein completion", 2, "bash, zsh or fish"},
		{"pagein --log-level loud status", 2, "loud"},
		{"pagein --log-format xml status", 2, "xml"},
		{"pagein --address tcp://x status", 2, "tcp://x"},
		{"pagein --address " + none + " status", 1, "is it running?"},
		{"pagein --address " + none + " mount oci:x /y", 1, "is it running?"},
		{"pagein --address " + none + " umount /y", 1, "is it running?"},
		{"pagein --address " + none + " prepare example.com/x", 1, "is it running?"},
		{"mount.pagein x", 2, "want REF and DIR"},
		{"mount.pagein x /y -o address=" + none, 1, "is it running?"},
		{"mkfs.pagein", 2, "mkfs"},
	} {
		status, _, stderr := pagein(t, strings.Fields(c.args)...)
		lines := strings.Split(strings.TrimSpace(stderr), "\n")
		last := lines[len(lines)-1]
		if status != c.status || !strings.Contains(last, c.words) || c.words != "" && !strings.HasPrefix(last, "pagein: ") {
			t.Errorf("%s: status %d, want %d; stderr %q, want %q in it", c.args, status, c.status, stderr, c.words)
		}
		if c.words != "" && c.args != "pagein" && len(lines) != 1 {
			t.Errorf("%s: more than one line: %q", c.args, stderr)
		}
	}
}

func TestErrorsFollowTheLogFormat(t *testing.T) {
	_, _, stderr := pagein(t, "pagein", "--log-format", "json", "umount")
	var line struct{ Level, Msg string }
	if err := json.Unmarshal([]byte(stderr), &line); err != nil || line.Level != "ERROR" || !strings.Contains(line.Msg, "want DIR") {
		t.Errorf("%q: %v", stderr, err)
	}
}

func TestSignalsAreNamedInOneWay(t *testing.T) {
	for _, said := range []error{context.Canceled, errors.New("interrupt signal received"), io.ErrUnexpectedEOF} {
		ctx, cancel := context.WithCancelCause(t.Context())
		failed := fmt.Errorf("convert x: %w", said)
		if got := interrupted(ctx, failed); got != failed {
			t.Errorf("before the end: %v", got)
		}
		cancel(errors.New("interrupt signal received"))
		if got := interrupted(ctx, failed).Error(); !strings.Contains(got, "interrupted") || strings.Contains(got, "cancel") || strings.Contains(got, "signal") {
			t.Errorf("%v becomes %s", failed, got)
		}
	}
}

// TestEmptyVariablesCountAsUnset has them name no daemon and no file.
func TestEmptyVariablesCountAsUnset(t *testing.T) {
	for _, name := range []string{"PAGEIN_ADDRESS", "PAGEIN_CONFIG", "CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE"} {
		t.Setenv(name, "")
	}
	app := newApp(io.Discard, io.Discard)
	app.Commands = []*cli.Command{{Name: "show", Flags: pullCommand().Flags, Action: func(c *cli.Context) error {
		for name, want := range map[string]string{"address": control.DefaultAddress, "config": defaultConfig, "containerd": imagestore.DefaultAddress, "namespace": imagestore.DefaultNamespace} {
			if got := c.String(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		return nil
	}}}
	takeOptionsAnywhere(app.Commands[0])
	if err := app.RunContext(t.Context(), []string{"pagein", "show"}); err != nil {
		t.Error(err)
	}
}

func TestBashCompletesCommandsAndOptions(t *testing.T) {
	bash := require.Tool(t, "bash")
	dir := t.TempDir()
	require.Tool(t, "go")
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "pagein"), ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const script = `
eval "$(pagein completion bash)"
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _pagein; echo "${COMPREPLY[*]}"; }
try pagein m
try pagein --log
try pagein --plain-http status --j
try pagein completion ""
try pagein mount ""
try pagein cat --
try pagein cat -
try pagein --
try pagein convert --level ""
try pagein convert --quiet --order t
try pagein install ""
try pagein uninstall containerd --r
`
	cmd := exec.Command(bash, "--norc", "-c", script)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	const want = "mkfs mount\n--log-level --log-format\n--json\nbash zsh fish\n\n--platform --help\n--platform --help -h\n" +
		"--address --config --log-level --log-format --plain-http --insecure --help --version\nfast default best\ntar\ncontainerd\n--remove --restart\n"
	if err != nil || string(out) != want {
		t.Errorf("got %q (%v), want %q", out, err, want)
	}
	for _, shell := range []string{"zsh", "fish"} {
		if status, script, _ := pagein(t, "pagein", "completion", shell); status != 0 || !strings.Contains(script, "pagein") {
			t.Errorf("%s: status %d: %q", shell, status, script)
		}
	}
}

// TestHelpIsThereByBothNames compares what "help" prints with what --help does.
func TestHelpIsThereByBothNames(t *testing.T) {
	for _, words := range [][]string{{}, {"mount"}, {"profile"}, {"profile", "show"}, {"mkfs"}} {
		_, want, _ := pagein(t, append(append([]string{"pagein"}, words...), "--help")...)
		status, got, stderr := pagein(t, append([]string{"pagein", "help"}, words...)...)
		if status != exitSuccess || got != want || !strings.Contains(got, "--help") {
			t.Errorf("%q: status %d, it says %s%s, want %s", words, status, got, stderr, want)
		}
	}
	if status, _, stderr := pagein(t, "pagein", "help", "nothing"); status != exitUsage || !strings.Contains(stderr, `there is no command "nothing"`) {
		t.Errorf("status %d, it says %s", status, stderr)
	}
}
