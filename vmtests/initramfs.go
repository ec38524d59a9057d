package vmtests

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pagein/pagein/vmtests/wire"
)

const initPackage = "github.com/pagein/pagein/vmtests/init"

// writeInitramfs makes the guest's first file system: init, busybox, modules, the spec and the job's files. It returns its size in bytes. It is not compressed:
// the emulated kernel would take longer to unpack it than the host takes to load it.
func (k *Kernel) writeInitramfs(ctx context.Context, job Job, work, to string) (size int64, err error) {
	busybox, err := find("busybox")
	if err != nil {
		return 0, err
	}
	init := filepath.Join(work, "init")
	if err := goBuild(ctx, init, initPackage); err != nil {
		return 0, err
	}
	spec, err := json.Marshal(k.spec(job))
	if err != nil {
		return 0, err
	}
	f, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	a := &archive{w: bufio.NewWriterSize(f, 1<<20), dirs: map[string]bool{"/": true}}
	a.file("/init", init)
	a.file("/bin/busybox", busybox)
	for _, name := range strings.Fields(applets) {
		a.symlink("/bin/"+name, "busybox")
	}
	a.dir("/root")
	for _, m := range k.Modules {
		a.file(path.Join(wire.ModuleDir, m), filepath.Join(k.dir, "modules", m))
	}
	a.bytes(wire.SpecPath, 0o100644, spec)
	for _, name := range slices.Sorted(maps.Keys(job.Files)) {
		a.file(name, job.Files[name])
	}
	a.end()
	if a.err == nil {
		a.err = a.w.Flush()
	}
	if a.err != nil {
		return 0, fmt.Errorf("write the guest's first file system: %w", a.err)
	}
	return a.size, nil
}

// applets are the names under which busybox is in the guest's PATH.
const applets = `ash awk basename cat chmod cmp cp cut date dd df diff dirname dmesg du echo env expr false find free grep gunzip gzip head hostname id ip
kill ln ls lsmod md5sum mkdir mknod mktemp mount mountpoint mv nproc od pidof ps pwd readlink rm rmdir sed seq sh sha256sum sleep sort stat sync
tail tar tee test time timeout touch tr true umount uname uniq vi wc wget which xargs`

func (k *Kernel) spec(job Job) wire.Spec {
	s := wire.Spec{Modules: k.Modules, Orderly: job.Orderly}
	for _, c := range job.Commands {
		s.Commands = append(s.Commands, wire.Command{Args: c.Args, Env: c.Env, Dir: c.Dir, Millis: c.Timeout.Milliseconds()})
	}
	return s
}

// goBuild builds a static program.
func goBuild(ctx context.Context, to, pkg string) error {
	cmd, err := command(ctx, "", "go", "build", "-trimpath", "-o", to, pkg)
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := cmd.CombinedOutput()
	return explain(cmd, err, string(out))
}

// archive writes a cpio archive in the "newc" form (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel). The first error
// sticks, in err.
type archive struct {
	w    *bufio.Writer
	dirs map[string]bool
	ino  int
	size int64
	err  error
}

// header writes the 110-byte header and the name, padded to 4 bytes. nlink is 1 throughout: hard links do not occur.
func (a *archive) header(name string, mode uint32, size int64) {
	if a.err != nil {
		return
	}
	if size > 0xffffffff {
		a.err = fmt.Errorf("%s: %d bytes are too much for a cpio archive", name, size)
		return
	}
	a.ino++
	name = strings.TrimPrefix(name, "/")
	n, err := fmt.Fprintf(a.w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.ino, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name)
	a.size += int64(n)
	a.err = err
	a.pad()
}

func (a *archive) pad() {
	if n := int(-a.size & 3); n > 0 && a.err == nil {
		_, a.err = a.w.WriteString("\x00\x00\x00"[:n])
		a.size += int64(n)
	}
}

func (a *archive) dir(name string) {
	if a.dirs[name] {
		return
	}
	a.dir(path.Dir(name))
	a.dirs[name] = true
	a.header(name, 0o040755, 0)
}

func (a *archive) bytes(name string, mode uint32, data []byte) {
	a.copy(name, mode, int64(len(data)), strings.NewReader(string(data)))
}

func (a *archive) symlink(name, target string) { a.bytes(name, 0o120777, []byte(target)) }

func (a *archive) copy(name string, mode uint32, size int64, from io.Reader) {
	a.dir(path.Dir(name))
	a.header(name, mode, size)
	if a.err != nil {
		return
	}
	n, err := io.CopyN(a.w, from, size)
	a.size += n
	if a.err = err; err != nil {
		return
	}
	a.pad()
}

// file adds a regular file of the host.
func (a *archive) file(name, from string) {
	if a.err != nil {
		return
	}
	f, err := os.Open(from)
	if err != nil {
		a.err = err
		return
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", from)
	}
	if err != nil {
		a.err = err
		return
	}
	a.copy(path.Clean("/"+name), 0o100000|uint32(st.Mode().Perm()), st.Size(), f)
}

func (a *archive) end() { a.header("TRAILER!!!", 0, 0) }
