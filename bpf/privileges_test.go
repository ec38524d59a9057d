package bpf_test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/bpf"
	"github.com/pagein/pagein/internal/privileges"
)

// keepEnv has, in a child, the numbers of the capabilities to keep.
const keepEnv = "PAGEIN_TEST_KEEP"

// openWithLess is the child: it gives up all other capabilities and opens a tracer.
func openWithLess(keep string) error {
	var caps []int
	for field := range strings.FieldsSeq(keep) {
		c, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		caps = append(caps, c)
	}
	if err := privileges.Drop(caps...); err != nil {
		return err
	}
	tracer, err := bpf.Open(bpf.Options{})
	if err != nil {
		return err
	}
	if _, err := tracer.Stats(); err != nil {
		return err
	}
	return tracer.Close()
}

func TestFewCapabilitiesAreEnough(t *testing.T) {
	variants(t)
	for name, c := range map[string]struct {
		keep []int
		ok   bool
	}{
		"as pageind has them": {[]int{unix.CAP_SYS_ADMIN}, true},
		"the least":           {[]int{unix.CAP_BPF, unix.CAP_PERFMON}, true},
		"none":                {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), keepEnv+"="+strings.Trim(fmt.Sprint(c.keep), "[]"))
			out, err := cmd.CombinedOutput()
			if (err == nil) != c.ok {
				t.Errorf("it ended with %v: %s", err, out)
			}
		})
	}
}
