package vmtests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAMissingKernelSaysWhichSystemHasIt(t *testing.T) {
	for name, c := range map[string]struct{ osRelease, says, not string }{
		"Ubuntu":    {"PRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\nID=ubuntu\nID_LIKE=debian\n", "Ubuntu 24.04.1 LTS does not have them; run this on Debian 12", "apt-get update"},
		"Debian 13": {"PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nID=debian\nVERSION_ID=\"13\"\n", "13 (trixie) does not have them", "apt-get update"},
		"Debian 12": {"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID='12'\n", "apt-get update", "container"},
		"unknown":   {"", "run this on Debian 12", "apt-get update"},
	} {
		file := filepath.Join(t.TempDir(), "os-release")
		if err := os.WriteFile(file, []byte(c.osRelease), 0o600); err != nil {
			t.Fatal(err)
		}
		err := noKernel("6.1", file)
		if !isMissing(err) || !strings.Contains(err.Error(), "Linux 6.1") || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), c.not) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
