package vmtests

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// guestModules are loaded by every guest, with what they depend on, in this order.
func guestModules() []string {
	return []string{"virtio_pci", "virtio_console", "virtio_blk", "crc32c_generic", "ext4", "loop", "overlay", "cachefiles", "erofs", "dm_flakey", "dm_log_writes", "xfs"}
}

// build makes a kernel from its packages in work/out. A build that broke off is taken up where that is cheap: downloads stay.
func build(ctx context.Context, p packages, work string, log func(string)) (*Kernel, error) {
	if err := check("tar", "xz", "make", "gcc", "strip", "depmod", "modprobe"); err != nil {
		return nil, err
	}
	debs, tree, out := filepath.Join(work, "debs"), filepath.Join(work, "tree"), filepath.Join(work, "out")
	for _, d := range []string{tree, out} {
		if err := os.RemoveAll(d); err != nil {
			return nil, err
		}
	}
	for _, d := range []string{debs, tree, filepath.Join(out, "modules")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	log("downloading " + strings.Join(p.all(), " "))
	if err := download(ctx, debs, p.all()); err != nil {
		return nil, err
	}
	if err := unpack(ctx, p, debs, tree); err != nil {
		return nil, err
	}
	for _, m := range []string{"cachefiles", "erofs"} {
		log("compiling " + m + ".ko for " + p.release)
		if err := module(ctx, p, tree, m); err != nil {
			return nil, err
		}
	}
	k := &Kernel{Release: p.release, Version: p.version}
	if err := k.collect(ctx, tree, out); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(k, "", "\t")
	if err != nil {
		return nil, err
	}
	return k, os.WriteFile(filepath.Join(out, manifest), text, 0o644)
}

// unpack lays the packages out below tree, with only the two directories of the source that are to be compiled.
func unpack(ctx context.Context, p packages, debs, tree string) error {
	deb := func(nameVersion string) (string, error) {
		name, _, _ := strings.Cut(nameVersion, "=")
		found, err := filepath.Glob(filepath.Join(debs, name+"_*.deb"))
		if err == nil && len(found) != 1 {
			err = fmt.Errorf("%d files of package %s in %s", len(found), name, debs)
		}
		if err != nil {
			return "", err
		}
		return found[0], nil
	}
	for _, pkg := range p.all() {
		file, err := deb(pkg)
		if err != nil {
			return err
		}
		if err := run(ctx, "", "dpkg-deb", "-x", file, tree); err != nil {
			return err
		}
	}
	tarball, err := filepath.Glob(filepath.Join(tree, "usr/src/linux-source-*.tar.xz"))
	if err != nil || len(tarball) != 1 {
		return fmt.Errorf("find the source tarball in %s: %d found", tree, len(tarball))
	}
	args := []string{"-xJf", tarball[0], "--strip-components=1", "-C", filepath.Join(tree, "usr/src"), "--wildcards"}
	return run(ctx, "", "tar", append(args, "*/fs/erofs/*", "*/fs/cachefiles/*")...)
}

// module compiles fs/NAME as a module with on-demand reads and puts it in the place of Debian's.
func module(ctx context.Context, p packages, tree, name string) error {
	src := filepath.Join(tree, "usr/src/fs", name)
	headers := filepath.Join(tree, "usr/src/linux-headers-"+p.release)
	// Debian's Makefile includes the common one by the path it has when installed.
	include := fmt.Sprintf("include %s/usr/src/linux-headers-%s-common/Makefile\n", tree, strings.TrimSuffix(p.release, "-amd64"))
	if err := os.WriteFile(filepath.Join(headers, "Makefile"), []byte(include), 0o644); err != nil {
		return err
	}
	// With vmlinux at hand the module gets type information, for which pahole is needed; nothing here reads it.
	if err := os.RemoveAll(filepath.Join(headers, "vmlinux")); err != nil {
		return err
	}
	option := map[string]string{"cachefiles": "CONFIG_CACHEFILES", "erofs": "CONFIG_EROFS_FS"}[name]
	args := []string{
		"-s", "-j" + strconv.Itoa(runtime.NumCPU()), "-C", headers, "M=" + src,
		option + "=m", option + "_ONDEMAND=y", "KCFLAGS=-D" + option + "_ONDEMAND=1", "modules",
	}
	if _, err := find("gcc-12"); err != nil {
		args = append(args, "CC=gcc") // Debian names the compiler that the kernel was built with; another one does as well
	}
	if err := run(ctx, "", "make", args...); err != nil {
		return err
	}
	dir := filepath.Join(tree, "lib/modules", p.release, "kernel/fs", name)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Rename(filepath.Join(src, name+".ko"), filepath.Join(dir, name+".ko"))
}

// collect copies the kernel and, stripped of debugging data and in load order, its modules to out.
func (k *Kernel) collect(ctx context.Context, tree, out string) error {
	if err := run(ctx, "", "depmod", "-b", tree, k.Release); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, name := range guestModules() {
		text, err := output(ctx, "", "modprobe", "-d", tree, "-S", k.Release, "--show-depends", name)
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			verb, path, _ := strings.Cut(strings.TrimSpace(line), " ")
			path = strings.TrimSpace(path)
			if verb != "insmod" || seen[path] { // "builtin NAME" needs nothing
				continue
			}
			seen[path] = true
			file := strings.TrimSuffix(filepath.Base(path), ".xz")
			if err := plainModule(ctx, path, filepath.Join(out, "modules", file)); err != nil {
				return err
			}
			k.Modules = append(k.Modules, file)
		}
	}
	return os.Rename(filepath.Join(tree, "boot/vmlinuz-"+k.Release), filepath.Join(out, "vmlinuz"))
}

// plainModule copies a module, decompressed and stripped.
func plainModule(ctx context.Context, from, to string) error {
	if strings.HasSuffix(from, ".xz") {
		if err := run(ctx, "", "xz", "-dk", from); err != nil {
			return err
		}
		from = strings.TrimSuffix(from, ".xz")
	}
	return run(ctx, "", "strip", "-g", "-o", to, from)
}
