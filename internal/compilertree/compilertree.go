// Package compilertree makes the tree of a small system that can compile C, from what this machine has: programs that start others, map libraries and read many small files are what
// lazy mounts are for. It is for tests.
package compilertree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Program is what the tree can compile.
const Program = `#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	unsigned long sum = 0;
	for (int i = 1; i < argc; i++)
		sum += strtoul(argv[i], NULL, 10) * strlen(argv[i]);
	printf("%lu\n", sum);
	return 0;
}
`

// Optimization is the option to compile it with: which headers are included depends on it.
const Optimization = "-O1"

// Compiler is the compiler's path in the tree.
const Compiler = "/usr/bin/gcc"

// Write makes the tree in dir, about 60 MB, with more programs of this machine in /usr/bin if they are wanted. Needed are gcc and the C library's headers.
func Write(ctx context.Context, dir string, programs ...string) error {
	if err := write(ctx, dir, programs); err != nil {
		return fmt.Errorf("make a tree with a compiler: %w", err)
	}
	return nil
}

func write(ctx context.Context, dir string, programs []string) error {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return err
	}
	files, err := parts(ctx, gcc)
	if err != nil {
		return err
	}
	headers, err := headers(ctx, gcc)
	if err != nil {
		return err
	}
	t := tree(dir)
	if err := t.skeleton(); err != nil {
		return err
	}
	for _, f := range append(files, headers...) {
		if err := t.copy(f); err != nil {
			return err
		}
	}
	for _, p := range programs {
		libraries, err := linkedWith(ctx, p)
		if err != nil && !strings.Contains(err.Error(), "not a dynamic executable") {
			return err
		}
		for _, f := range libraries {
			if err := t.copy(f); err != nil {
				return err
			}
		}
		if err := t.copyAs(p, filepath.Join("/usr/bin", filepath.Base(p))); err != nil {
			return err
		}
	}
	return t.copyAs(gcc, Compiler)
}

// parts lists the programs that gcc runs, what they are linked with, and what it links programs with.
func parts(ctx context.Context, gcc string) ([]string, error) {
	programs := []string{gcc}
	for _, name := range []string{"cc1", "collect2", "as", "ld"} {
		found, err := output(ctx, gcc, "-print-prog-name="+name)
		if err == nil && !filepath.IsAbs(found) {
			found, err = exec.LookPath(found)
		}
		if err != nil {
			return nil, err
		}
		programs = append(programs, found)
	}
	files := slices.Clone(programs[1:])
	for _, name := range []string{
		"Scrt1.o", "crti.o", "crtn.o", "crtbeginS.o", "crtendS.o", "libgcc.a", "libgcc_s.so", "libgcc_s.so.1", "libc.so", "libc_nonshared.a", "liblto_plugin.so",
	} {
		found, err := output(ctx, gcc, "-print-file-name="+name)
		if err != nil {
			return nil, err
		}
		files = append(files, found)
	}
	for _, p := range programs {
		libraries, err := linkedWith(ctx, p)
		if err != nil {
			return nil, err
		}
		files = append(files, libraries...)
	}
	return files, nil
}

// loaded matches a line of ldd that names a file.
var loaded = regexp.MustCompile(`(?m)(/\S+) \(0x[0-9a-f]+\)$`)

func linkedWith(ctx context.Context, program string) (files []string, err error) {
	text, err := output(ctx, "ldd", program)
	for _, m := range loaded.FindAllStringSubmatch(text, -1) {
		files = append(files, m[1])
	}
	return files, err
}

// headers lists what the program includes.
func headers(ctx context.Context, gcc string) ([]string, error) {
	cmd := exec.CommandContext(ctx, gcc, "-M", Optimization, "-xc", "-")
	cmd.Stdin = strings.NewReader(Program)
	rule, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list headers: %w", err)
	}
	words := strings.Fields(strings.ReplaceAll(string(rule), "\\\n", " "))
	return slices.DeleteFunc(words, func(w string) bool { return !filepath.IsAbs(w) }), nil
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", cmd, err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// tree is the root directory of a system.
type tree string

// skeleton makes what is not in a package: the links of a merged /usr, and a directory for temporary files.
func (t tree) skeleton() error {
	for _, name := range []string{"bin", "lib", "lib64"} {
		if err := os.MkdirAll(filepath.Join(string(t), "usr", name), 0o755); err != nil {
			return err
		}
		if err := os.Symlink("usr/"+name, filepath.Join(string(t), name)); err != nil {
			return err
		}
	}
	return os.Mkdir(filepath.Join(string(t), "tmp"), 0o777)
}

// copy puts a file where this machine has it, seen through the links of directories. A link to a file becomes a file.
func (t tree) copy(file string) error {
	dir, err := filepath.EvalSymlinks(filepath.Dir(file))
	if err != nil {
		return err
	}
	return t.copyAs(file, filepath.Join(dir, filepath.Base(file)))
}

func (t tree) copyAs(file, name string) error {
	to := filepath.Join(string(t), name)
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return err // it is there, or cannot be
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	st, err := os.Stat(file)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, st.Mode().Perm())
}
