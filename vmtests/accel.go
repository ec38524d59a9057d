package vmtests

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/cache"
	"github.com/pagein/pagein/vmtests/wire"
)

// kvmTrial is how long a guest without work may take under KVM. Booting takes a second where KVM works; where it is only
// pretended, the guest hangs in its firmware.
const kvmTrial = 15 * time.Second

// accelerator says "kvm" if a guest that does nothing boots under it, else "tcg". The verdict is kept in the cache for this machine's kernel,
// processor and QEMU.
func (k *Kernel) accelerator(ctx context.Context, log func(string)) (string, error) {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return "tcg", nil
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	kept, err := cache.Dir(cacheKind)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(kept, 0o755); err != nil {
		return "", err
	}
	key, err := hostKey(ctx)
	if err != nil {
		return "", err
	}
	file := filepath.Join(kept, "kvm-"+key)
	unlock, err := cache.Lock(ctx, file+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if verdict, err := os.ReadFile(file); err == nil && (string(verdict) == "kvm" || string(verdict) == "tcg") {
		return string(verdict), nil
	}
	log("trying whether KVM works here, for at most " + kvmTrial.String())
	trial, cancel := context.WithTimeout(ctx, kvmTrial)
	defer cancel()
	ended := false
	err = k.power(trial, Job{DiskMiB: -1}.withDefaults(), "kvm", new(Result), func(e wire.Event) error {
		ended = ended || e.Kind == wire.KindEnd
		return nil
	})
	if ctx.Err() != nil || isMissing(err) {
		return "", errors.Join(err, ctx.Err())
	}
	verdict := "tcg"
	if err == nil && ended {
		verdict = "kvm"
	}
	log("guests run under " + verdict)
	return verdict, os.WriteFile(file, []byte(verdict), 0o644)
}

// hostKey names what a verdict about KVM depends on.
func hostKey(ctx context.Context) (string, error) {
	version, err := output(ctx, "", "qemu-system-x86_64", "--version")
	if err != nil {
		return "", err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", err
	}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	model := regexp.MustCompile(`(?m)^(model name|flags)\s*:.*$`).FindAllString(string(cpuinfo), 2)
	return hash(version, unix.ByteSliceToString(uts.Release[:]), strings.Join(model, "\n")), nil
}
