package vmtests

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/internal/compilertree"
	"github.com/pagein/pagein/internal/require"
)

// suite is a package whose tests run in every guest.
type suite struct {
	pkg      string            // import path below the module
	part     string            // what -suite calls this part of the package's tests, if it is not all of them
	run      string            // -test.run, "" for all
	skip     string            // -test.skip: tests of what is not in the guest
	once     string            // tests for the newest kernel only, unless -series names one
	programs map[string]string // programs the tests need: path in the guest → import path below the module
	tools    []string          // programs of the host that the tests need, such as mkfs.xfs
	timeout  time.Duration     // for the whole package in one guest, or in one boot: many times what it takes, as emulation on a busy machine is slow
}

// suites is the table to extend when another package wants its tests to meet the test kernels.
var suites = []suite{
	{pkg: "erofs", run: "TestEveryReaderSees|TestEqualXattrs|TestMoreXattrs|TestLargeSharedArea|TestKernelAnswers|TestFilesOver4GiB", timeout: 15 * time.Minute},
	{pkg: "cachefiles", timeout: 20 * time.Minute},
	{pkg: "bpf", timeout: 15 * time.Minute},
	{pkg: "cmd/pageind", skip: hostTests + "|" + rebootTests + "|" + containerTests, once: "TestTheDaemonLivesWithLittleMemory", timeout: 40 * time.Minute, programs: pageinPrograms},
	{pkg: "cmd/pageind", part: "containers", run: containerTests, once: containerdTests, timeout: 30 * time.Minute, programs: pageinPrograms, tools: containerPrograms},
}

// containerTests run containers in a guest, which takes programs that are large.
const containerTests = "TestContainersRunInAGuest|TestContainersOutliveTheDaemonAndContainerd|TestBlobsThatAreSwappedBehindTheirDigestsShowNoWrongByte|TestManyContainersAtOnce|" + containerdTests

// containerdTests are those of them that are mostly the same to each kernel.
const containerdTests = "TestHostileArtifactsAreNotUsed|TestAKeyThatIsTakenAwayCountsNoMore|TestOrdinaryImagesRunBesideLazyOnes|TestKubernetesRunsPods"

var containerPrograms = []string{"registry", "containerd", "containerd-shim-runc-v2", "ctr", "crictl", "runc", "busybox"}

// hostTests need the documentation, a terminal or fanotify, which are not in the guests, or are about servers and not about kernels, and take an emulated machine long. A registry as the source
// instead of a layout takes it minutes, and is the same to the kernel.
const hostTests = "TestDocumentedConfiguration|TestTopShows|TestAPrefetchedImage|TestFaultsOfAServer|TestAServerThat|TestDataInS3|TestStorageThat|TestACredentialHelper|TestCredentialsMay|" +
	"TestLazyMountEqualsSource/registry|TestAMountThatBorrowsEqualsItsSource/registry"

var pageinPrograms = map[string]string{"/bin/pagein": "cmd/pagein", "/bin/pageind": "cmd/pageind", "/bin/pagein-keeper": "cmd/pagein-keeper"}

var (
	onlySuite  = flag.String("suite", "", "run only the suites of this package, such as cachefiles, or the part of one, such as cmd/pageind:containers")
	onlySeries = flag.String("series", "", "run only under this kernel series, such as 6.12")
	onlyTests  = flag.String("tests", "", "run only the suites' tests that match this expression")
	memMiB     = flag.Int("mem-mib", guestMiB, "give a guest so much memory")
	diskMiB    = flag.Int("disk-mib", 4096, "give a guest a disk of this size")
	limit      = flag.Duration("limit", 0, "let each suite take so long, in place of its own limit")
)

// chosen are the suites of a table that the flags leave, as they want them.
func chosen(table []suite) (suites []suite) {
	for _, s := range table {
		if *onlySuite != "" && *onlySuite != s.pkg && *onlySuite != s.pkg+":"+s.part {
			continue
		}
		if *onlyTests != "" {
			s.run = *onlyTests
		}
		if *limit > 0 {
			s.timeout = *limit
		}
		suites = append(suites, s)
	}
	return suites
}

// bootLimit is for the boot of a guest, and its end.
const bootLimit = 5 * time.Minute

const modulePath = "github.com/pagein/pagein/"

// TestGuest runs the suites under every test kernel and reports each of their tests as a subtest named after the kernel's release.
func TestGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	suites := possible(t, chosen(suites))
	files := buildSuites(t, suites)
	disk := guestDisk(t, files)
	everyKernel(t, func(t *testing.T, k *Kernel) {
		under := slices.Clone(suites)
		for i := range under {
			under[i].leaveOut(k)
		}
		runSuites(t, k, under, files, disk)
	})
}

// possible are the suites whose programs the host has. Each of the others is skipped by itself.
func possible(t *testing.T, table []suite) (suites []suite) {
	t.Helper()
	for _, s := range table {
		_, err := Programs(t.Context(), s.tools...)
		if !isMissing(err) {
			suites = append(suites, s)
			continue
		}
		t.Run(s.pkg, func(t *testing.T) { need(t, err) })
	}
	return suites
}

// leaveOut has the suite skip what a kernel need not run.
func (s *suite) leaveOut(k *Kernel) {
	newest := Series()[len(Series())-1]
	if s.once == "" || *onlySeries != "" || strings.HasPrefix(k.Release, newest+".") {
		return
	}
	s.skip = strings.Trim(s.skip+"|"+s.once, "|")
}

// everyKernel calls f for each test kernel, in a subtest named after its release. The subtests run side by side: a guest keeps little more than one processor busy.
func everyKernel(t *testing.T, f func(*testing.T, *Kernel)) {
	for _, series := range Series() {
		if *onlySeries != "" && series != *onlySeries {
			continue
		}
		k, err := Prepare(t.Context(), series, func(line string) { t.Log(line) })
		if err != nil { // the other series may be there
			t.Run(series, func(t *testing.T) {
				need(t, err)
				t.Fatal(err)
			})
			continue
		}
		t.Run(k.Release, func(t *testing.T) {
			t.Parallel()
			f(t, k)
		})
	}
}

// need skips the test, or fails it under PAGEIN_REQUIRE, if the host lacks something.
func need(t *testing.T, err error) {
	t.Helper()
	var missing *MissingError
	if errors.As(err, &missing) {
		require.Feature(t, false, missing.Error())
	}
}

// buildSuites compiles the test binaries and programs, and says where in the guest they go.
func buildSuites(t *testing.T, suites []suite) map[string]string {
	dir := t.TempDir()
	files := make(map[string]string)
	build := func(guestPath, pkg string, args ...string) {
		host := filepath.Join(dir, strings.ReplaceAll(guestPath, "/", "_"))
		cmd, err := command(t.Context(), "", "go", append(args, "-o", host, modulePath+pkg)...)
		need(t, err)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, out)
		}
		if _, err := os.Stat(host); err != nil {
			t.Fatalf("package %s has no tests: %v", pkg, err)
		}
		files[guestPath] = host
	}
	for _, s := range suites {
		if files[s.binary()] == "" {
			build(s.binary(), s.pkg, "test", "-c", "-trimpath", "-ldflags=-s -w")
		}
		tools, err := Programs(t.Context(), s.tools...)
		need(t, err)
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(files, tools)
		for guestPath, pkg := range s.programs {
			if files[guestPath] == "" {
				build(guestPath, pkg, "build", "-trimpath", "-ldflags=-s -w")
			}
		}
	}
	return files
}

// guestDisk makes a directory for the guests' disk with what they cannot make: a lazy image with a compiler, and a layer with one and Python, if the tests have the programs to use them.
func guestDisk(t *testing.T, files map[string]string) string {
	pagein := files["/bin/pagein"]
	if pagein == "" {
		return ""
	}
	tree, disk := t.TempDir(), t.TempDir()
	if err := compilertree.Write(t.Context(), tree); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), pagein, "convert", "dir:"+tree, "oci:"+filepath.Join(disk, "compiler")+":tree").CombinedOutput()
	if err != nil {
		t.Fatalf("convert a tree with a compiler: %v\n%s", err, out)
	}
	if _, err := os.Stat(compilertree.Python); err == nil && files["/usr/sbin/containerd"] != "" {
		systemLayer(t, filepath.Join(disk, "system.tar"))
	}
	return disk
}

// systemLayer makes a layer for containers. It is not compressed: that would take an emulated machine long.
func systemLayer(t *testing.T, to string) {
	t.Helper()
	tree := t.TempDir()
	busybox, err := find("busybox")
	if err == nil {
		err = compilertree.WriteSystem(t.Context(), tree, busybox)
	}
	if err == nil {
		err = run(t.Context(), "", "tar", "-c", "-f", to, "-C", tree, ".")
	}
	if err != nil {
		t.Fatalf("make a layer with Python: %v", err)
	}
}

func (s suite) binary() string { return "/tests/" + strings.ReplaceAll(s.pkg, "/", "-") + ".test" }

// command runs the suite's tests. What they print goes to output.
func (s suite) command(output io.Writer, env ...string) Command {
	for _, name := range []string{"PAGEIN_REQUIRE", "PAGEIN_KILLS", "PAGEIN_CONTAINERS", "PAGEIN_WORKLOADS"} {
		env = append(env, name+"="+os.Getenv(name))
	}
	return Command{
		Args:    []string{s.binary(), "-test.v=test2json", "-test.run=" + s.run, "-test.skip=" + s.skip, fmt.Sprintf("-test.timeout=%v", s.timeout-10*time.Second)},
		Env:     append(env, require.GuestEnv+"=/disk"),
		Timeout: s.timeout,
		Output:  output,
	}
}

// guestMiB is a guest's memory: the programs that run containers take 200 MiB of it as files, as much again when they run, and 10 MiB for each container.
const guestMiB = 2048

// runSuites boots one guest for all suites.
func runSuites(t *testing.T, k *Kernel, suites []suite, files map[string]string, disk string) {
	job := Job{Files: files, DiskDir: disk, DiskMiB: *diskMiB, MemMiB: *memMiB, Log: func(line string) { t.Log(line) }, Timeout: bootLimit}
	outputs := make([]bytes.Buffer, len(suites))
	for i, s := range suites {
		job.Timeout += s.timeout
		job.Commands = append(job.Commands, s.command(&outputs[i]))
	}
	r := runGuest(t, k, job)
	for i, s := range suites {
		s.report(t, &outputs[i], r, i)
	}
}

// runGuest runs a job and reports what the kernel had to complain of.
func runGuest(t *testing.T, k *Kernel, job Job) *Result {
	t.Helper()
	ctx := t.Context()
	if deadline, ok := t.Deadline(); ok { // leave time to report what ran
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, deadline.Add(-15*time.Second), errors.New("the time of go test is up (-timeout)"))
		defer cancel()
	}
	r, err := k.Run(ctx, job)
	need(t, err)
	t.Logf("guest ran for %v under %s", r.Elapsed.Round(100*time.Millisecond), r.Accelerator)
	if err != nil {
		t.Errorf("%v", err)
	}
	if bad := kernelTrouble(r.Console); bad != "" {
		t.Errorf("the kernel complained: %s", bad)
	}
	if t.Failed() {
		t.Logf("end of the console:\n%s", tail(r.Console, 6000))
	}
	return r
}

// report reports the tests that a guest ran as its ith command as subtests.
func (s suite) report(t *testing.T, output io.Reader, r *Result, i int) {
	results, err := parseTests(t.Context(), modulePath+s.pkg, output)
	if err != nil {
		t.Errorf("%s: %v", s.pkg, err)
	}
	results.replay(t)
	if i < len(r.Exit) && r.Exit[i].Code != 0 && !results.failed() {
		t.Errorf("%s ended with status %d (%s) though no test failed:\n%s", s.pkg, r.Exit[i].Code, r.Exit[i].Problem, results.output)
	}
	if len(results.tests) == 0 && *onlyTests == "" {
		t.Errorf("%s ran no test", s.pkg)
	}
}

// kernelTrouble returns the first line of the console that no test may provoke.
func kernelTrouble(console string) string {
	for line := range strings.Lines(console) {
		for _, sign := range []string{"BUG:", "kernel BUG", "Oops", "WARNING: ", "general protection", "Kernel panic", "blocked for more than", "soft lockup"} {
			if strings.Contains(line, sign) {
				return strings.TrimSpace(line)
			}
		}
	}
	return ""
}

// TestFailuresInAGuestAreSeen makes sure that a guest which cannot do its job is reported, not passed over.
func TestFailuresInAGuestAreSeen(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	k, err := Prepare(t.Context(), "6.12", func(line string) { t.Log(line) })
	need(t, err)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "note"), []byte("from the host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sh := func(script string) Command { return Command{Args: []string{"/bin/sh", "-c", script}, Output: &out} }
	hang := sh("trap '' QUIT; echo hanging; sleep 1000")
	hang.Timeout = 10 * time.Second
	r, err := k.Run(t.Context(), Job{
		DiskDir:  dir,
		Commands: []Command{sh("cat /disk/note"), sh("exit 3"), hang, {Args: []string{"/absent"}}, sh("echo 'not an event'; wget -q -O- http://127.0.0.1:1 || echo c > /proc/sysrq-trigger; sleep 60")},
		Timeout:  bootLimit,
	})
	need(t, err)
	if err == nil || !strings.Contains(err.Error(), "4 of 5 commands") {
		t.Errorf("a guest that panicked is reported as %v", err)
	}
	if !strings.Contains(r.Console, "sysrq triggered crash") {
		t.Errorf("the console does not tell of the panic: %s", tail(r.Console, 2000))
	}
	if got := out.String(); !strings.Contains(got, "from the host\nhanging\nnot an event\n") {
		t.Errorf("output %q", got)
	}
	codes := make([]int, len(r.Exit))
	for i, e := range r.Exit {
		codes[i] = e.Code
	}
	if want := []int{0, 3, -1, -1}; fmt.Sprint(codes) != fmt.Sprint(want) {
		t.Errorf("exit codes %v, want %v (%+v)", codes, want, r.Exit)
	}
}

// TestAHangingGuestIsKilled makes sure that the time limit holds for a guest that never ends.
func TestAHangingGuestIsKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("boots virtual machines")
	}
	k, err := Prepare(t.Context(), "6.12", func(line string) { t.Log(line) })
	need(t, err)
	if err != nil {
		t.Fatal(err)
	}
	for limit := 20 * time.Second; ; limit *= 2 { // of which it must not take all to boot
		var out bytes.Buffer
		r, err := k.Run(t.Context(), Job{Commands: []Command{{Args: []string{"/bin/sh", "-c", "echo up; sleep 1000"}, Output: &out}}, Timeout: limit})
		need(t, err)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("not through after %v", limit)) {
			t.Fatalf("a guest that hangs is reported as %v", err)
		}
		if out.String() != "up\n" && limit < bootLimit {
			continue
		}
		if out.String() != "up\n" || r.Console == "" {
			t.Errorf("before it was killed, the guest said %q and its console %q", out.String(), r.Console)
		}
		return
	}
}
