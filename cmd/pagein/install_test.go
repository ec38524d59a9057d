package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/snapshotter/imagestore"
)

// systemctl is a program of that name that notes what it is asked for, and fails with a status.
func systemctl(t *testing.T, status string) (asked func() string) {
	t.Helper()
	dir := t.TempDir()
	note := filepath.Join(dir, "asked")
	script := "#!/bin/sh\necho \"$@\" >>" + note + "\necho no such unit >&2\nexit " + status + "\n"
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil { // #nosec G306 -- it is to be run
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() string {
		b, err := os.ReadFile(note)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(b)
	}
}

// install runs "pagein install containerd" for configurations in a directory.
func runInstall(t *testing.T, dir string, args ...string) (status int, said string) {
	t.Helper()
	theirs := filepath.Join(dir, "config.toml")
	if _, err := os.Stat(theirs); err != nil {
		if err := os.WriteFile(theirs, []byte("version = 3\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return setUp(t, "install", dir, "config.toml", args...)
}

// setUp runs a command that sets up, for a configuration of containerd in a directory.
func setUp(t *testing.T, command, dir, config string, args ...string) (status int, said string) {
	t.Helper()
	all := append([]string{
		"pagein", "--config", filepath.Join(dir, "pagein.toml"), command, "containerd",
		"--containerd-program", require.Tool(t, "containerd"), "--containerd-config", filepath.Join(dir, config),
	}, args...)
	var out, err strings.Builder
	status = run(t.Context(), all, &out, &err)
	return status, out.String() + err.String()
}

// TestAConfigurationThatIsNotThereIsNotMeant has a slip in the name of containerd's configuration.
func TestAConfigurationThatIsNotThereIsNotMeant(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"install", "--apply"}, {"install"}, {"uninstall", "--apply", "--complete"}} {
		status, said := setUp(t, args[0], dir, "confg.toml", args[1:]...)
		if status != exitFailure || !strings.Contains(said, "confg.toml: no such file") {
			t.Errorf("%q: status %d; it says %s", args, status, said)
		}
	}
	if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
		t.Errorf("made are %v, %v", made, err)
	}
}

// TestImagesAreLookedAtWithoutLines asks to complete images where nothing is written in configurations.
func TestImagesAreLookedAtWithoutLines(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte("version = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, said := setUp(t, "uninstall", dir, "config.toml", "--apply")
	for _, want := range []string{"Nothing is put into " + filepath.Join(dir, "config.toml"), "What stays: pageind", "rm -r /var/lib/pagein /run/pagein\n"} {
		if status != exitSuccess || !strings.Contains(said, want) {
			t.Errorf("status %d; it says %s, want %s", status, said, want)
		}
	}
	if strings.Contains(said, "the empty directory") {
		t.Errorf("of a directory with files it says %s", said)
	}
	_, err := os.Stat("/run/systemd/system")
	if strings.Contains(said, "systemctl restart") != (err == nil) || strings.Contains(said, "SIGTERM to pageind (to its supervisor") != (err != nil) {
		t.Errorf("where systemd is (%v) it says %s", err, said)
	}
	status, said = setUp(t, "uninstall", dir, "config.toml", "--apply", "--complete", "--containerd", "/nowhere/sock")
	if status != exitFailure || !strings.Contains(said, "connect to containerd at /nowhere/sock") {
		t.Errorf("status %d; it says %s", status, said)
	}
}

func TestBothAreRestartedOnceTheirConfigurationsAreWritten(t *testing.T) {
	asked, dir := systemctl(t, "0"), t.TempDir()
	if status, said := runInstall(t, dir, "--apply", "--restart"); status != exitSuccess {
		t.Fatalf("it says %s", said)
	}
	if got, want := asked(), "restart pageind.service\nrestart containerd.service\n"; got != want {
		t.Errorf("systemctl is asked %q, want %q", got, want)
	}
	if status, said := runInstall(t, dir, "--apply", "--restart"); status != exitSuccess || strings.Count(said, "nothing to do") != 2 {
		t.Errorf("the second time it says %s", said)
	}
	if got := strings.Count(asked(), "restart"); got != 2 {
		t.Errorf("both are restarted again for nothing: %s", asked())
	}
}

func TestWhatCannotBeRestartedIsToBeRestartedByHand(t *testing.T) {
	systemctl(t, "5")
	status, said := runInstall(t, t.TempDir(), "--apply", "--restart")
	const want = "restart pageind.service: exit status 5: no such unit; the files are written; without systemd: SIGTERM to pageind (to its supervisor, if it runs with --supervise), start it anew once it has ended, then restart containerd; containers go on"
	if status != exitFailure || !strings.HasSuffix(said, want+"\n") {
		t.Errorf("status %d; it says %s", status, said)
	}
	status, said = runInstall(t, t.TempDir(), "--apply", "--restart", "--check")
	if status != exitFailure || !strings.Contains(said, want+`; nothing was checked: then do "pagein install containerd --check"`) {
		t.Errorf("status %d; with a check it says %s", status, said)
	}
}

// TestInstallShowsWhatGoes installs for Kubernetes and then without.
func TestInstallShowsWhatGoes(t *testing.T) {
	dir := t.TempDir()
	if status, said := runInstall(t, dir, "--apply", "--cri"); status != exitSuccess || strings.Contains(said, "without these lines") {
		t.Fatalf("it says %s", said)
	}
	if status, said := runInstall(t, dir, "--apply", "--cri"); status != exitSuccess || strings.Count(said, "nothing to do") != 2 {
		t.Errorf("the second time it says %s", said)
	}
	status, said := runInstall(t, dir, "--apply")
	gone, come, _ := strings.Cut(said, "config.toml, with these lines")
	const cri = "io.containerd.cri.v1.images"
	if status != exitSuccess || !strings.Contains(gone, "config.toml, without these lines") || !strings.Contains(gone, cri) || strings.Contains(come, cri) || !strings.Contains(gone, "Have kubelet ask containerd again") {
		t.Errorf("when Kubernetes is to use it no more it says %s", said)
	}
}

// TestWhatIsToBeRemovedIsPageinsOwn has a configuration in the working directory, which is empty.
func TestWhatIsToBeRemovedIsPageinsOwn(t *testing.T) {
	dir, theirs := t.TempDir(), filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(theirs, []byte("version = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	var out, err strings.Builder
	status := run(t.Context(), []string{
		"pagein", "--config", "pagein.toml", "uninstall", "containerd", "--containerd-program", require.Tool(t, "containerd"), "--containerd-config", theirs,
	}, &out, &err)
	for _, want := range []string{", and " + filepath.Join(dir, "pagein.toml") + ". ", "; rm -r /var/lib/pagein /run/pagein\n"} {
		if status != exitSuccess || !strings.Contains(out.String(), want) || strings.Contains(out.String(), "empty directory") {
			t.Errorf("status %d; it says %s%s, want %s", status, out.String(), err.String(), want)
		}
	}
}

// TestHelpSaysWhereContainerdIsAsked if nobody says where it listens.
func TestHelpSaysWhereContainerdIsAsked(t *testing.T) {
	for command, want := range map[string]string{
		"install":   "(default: where its configuration says, else " + imagestore.DefaultAddress + ")",
		"uninstall": "(default: where its configuration says, else " + imagestore.DefaultAddress + ")",
		"pull":      `(default: "` + imagestore.DefaultAddress + `")`,
	} {
		var out, err strings.Builder
		if status := run(t.Context(), []string{"pagein", command, "--help"}, &out, &err); status != exitSuccess || !strings.Contains(out.String(), want) {
			t.Errorf("%s: status %d; it says %s%s, want %s", command, status, out.String(), err.String(), want)
		}
	}
}

// TestAConfigurationThatContainerdDoesNotAcceptIsOnlyChangedWhereOurLinesAreSeen has one that may import them, which nobody can tell, and one that has them.
func TestAConfigurationThatContainerdDoesNotAcceptIsOnlyChangedWhereOurLinesAreSeen(t *testing.T) {
	dir := t.TempDir()
	if status, said := runInstall(t, dir, "--apply"); status != exitSuccess {
		t.Fatalf("it says %s", said)
	}
	own, theirs := filepath.Join(dir, "pagein.toml"), filepath.Join(dir, "config.toml")
	marked, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{"version = 9\n", "pagein: see what containerd makes of " + theirs},
		{"version = 9\n" + strings.TrimPrefix(string(marked), "version = 3\n"), "asked of the containerd at /nowhere/sock (--containerd names another one)\npagein: see what needs pageind: connect to containerd at /nowhere/sock"},
	} {
		if err := os.WriteFile(theirs, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		status, said := setUp(t, "uninstall", dir, "config.toml", "--apply", "--containerd", "/nowhere/sock")
		if status != exitFailure || !strings.Contains(said, c.want) {
			t.Errorf("%q: status %d; it says %s, want %s", c.text, status, said, c.want)
		}
		if got, err := os.ReadFile(own); err != nil || !strings.Contains(string(got), "containerd.sock") {
			t.Errorf("%q: without a containerd that says what needs it, pageind's configuration is %q, %v", c.text, got, err)
		}
	}
}

// TestTheImageServiceIsWhereContainerdsConfigurationHasIt unless somebody says otherwise.
func TestTheImageServiceIsWhereContainerdsConfigurationHasIt(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte("version = 3\n[grpc]\naddress = \"/of/the/file\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		variable string
		args     []string
		want     string
	}{{"", nil, "/of/the/file"}, {"/of/the/environment", nil, "/of/the/environment"}, {"/of/the/environment", []string{"--containerd", "/of/the/option"}, "/of/the/option"}} {
		t.Setenv("CONTAINERD_ADDRESS", c.variable)
		if status, said := runInstall(t, dir, append(c.args, "--cri")...); status != exitSuccess || !strings.Contains(said, `image-service = "unix://`+c.want+`"`) {
			t.Errorf("with %q in the environment, %q: status %d; it says %s", c.variable, c.args, status, said)
		}
	}
}

func TestContainersOfPodsAreRemovedWithThem(t *testing.T) {
	for namespace, want := range map[string]bool{"k8s.io": true, "default": false} {
		if said := howToRemove([]imagestore.Container{{Namespace: "x"}, {Namespace: namespace}}); strings.Contains(said, "crictl rmp --force") != want {
			t.Errorf("of containers in %s it says %q", namespace, said)
		}
	}
}

func TestInstallRefusesWhatMakesNoSense(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"install"}, `want "containerd"`},
		{[]string{"install", "docker"}, `want "containerd"; got ["docker"]`},
		{[]string{"install", "containerd", "--apply", "--check"}, "give --restart, too"},
		{[]string{"uninstall"}, `want "containerd"`},
		{[]string{"uninstall", "containerd", "--complete", "--remove"}, "one of --complete and --remove"},
		{[]string{"pull"}, "want REF"},
		{[]string{"pull", "oci:x"}, "containerd pulls from registries"},
		{[]string{"pull", "--platform", "amiga", "host.example/x"}, "platform"},
	} {
		var out, err strings.Builder
		if status := run(t.Context(), append([]string{"pagein"}, c.args...), &out, &err); status != exitUsage || !strings.Contains(err.String(), c.want) {
			t.Errorf("%q: status %d, %s", c.args, status, err.String())
		}
	}
}

func TestItIsSaidThatContainerdIsNotThere(t *testing.T) {
	const cure = "start containerd, or say where it listens: --containerd, $CONTAINERD_ADDRESS"
	for _, c := range []struct{ command, want string }{
		{"pull host.example/x", cure + ")"},
		{"install containerd --check", cure + ", or --containerd-config if its configuration says so)"},
	} {
		var out, err strings.Builder
		words := strings.Fields(c.command)
		status := run(t.Context(), append([]string{"pagein", words[0], "--containerd", "/nowhere/sock"}, words[1:]...), &out, &err)
		for _, want := range []string{"connect to containerd at /nowhere/sock", c.want} {
			if status != exitFailure || !strings.Contains(err.String(), want) {
				t.Errorf("%s: status %d, %s", c.command, status, err.String())
			}
		}
	}
}
