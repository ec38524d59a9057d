package vmtests

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/pagein/pagein/internal/require"
)

// rebootTests are the tests that go on where they were in an earlier boot: see [require.Boot].
const rebootTests = "TestReboot"

// reboots are packages whose reboot tests run once in each of three boots of one machine with one disk. The first boot ends with an orderly shutdown, the second with a
// power cut.
var reboots = []suite{
	{pkg: "cachefiles", run: rebootTests, timeout: 10 * time.Minute},
	{pkg: "cmd/pageind", run: rebootTests, skip: containerRebootTests, timeout: 15 * time.Minute, programs: pageinPrograms},
	{pkg: "cmd/pageind", part: "containers", run: containerRebootTests, timeout: 15 * time.Minute, programs: pageinPrograms, tools: containerPrograms},
}

// containerRebootTests are those of rebootTests that run containers.
const containerRebootTests = "TestRebootWithContainerd"

const boots = 3

// TestReboot runs the reboot tests under every test kernel, each package on a machine of its own: what it leaves running has the device that all want.
func TestReboot(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	suites := possible(t, chosen(reboots))
	files := make([]map[string]string, len(suites))
	for i, s := range suites {
		files[i] = buildSuites(t, []suite{s})
	}
	everyKernel(t, func(t *testing.T, k *Kernel) {
		for i, s := range suites {
			t.Run(s.pkg, func(t *testing.T) { s.reboot(t, k, files[i]) })
		}
	})
}

// reboot runs the suite in one boot after the other, until one fails.
func (s suite) reboot(t *testing.T, k *Kernel, files map[string]string) {
	disk := filepath.Join(t.TempDir(), "disk")
	for boot := 1; boot <= boots && !t.Failed(); boot++ {
		t.Run(fmt.Sprintf("boot %d", boot), func(t *testing.T) {
			var output bytes.Buffer
			r := runGuest(t, k, Job{
				Files: files, Disk: disk, DiskMiB: *diskMiB, MemMiB: *memMiB, Orderly: boot == 1, Log: func(line string) { t.Log(line) }, Timeout: bootLimit + s.timeout,
				Commands: []Command{s.command(&output, fmt.Sprintf("%s=%d", require.BootEnv, boot))},
			})
			s.report(t, &output, r, 0)
		})
	}
}
