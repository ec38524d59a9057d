package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/erofstest"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"
)

// peerSource makes a tree with something for every option to act on. Odd trees are for other tests: mkfs.erofs 1.5 fails for many of them.
func peerSource(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	steps := []error{
		os.Symlink("blocks", filepath.Join(dir, "a link")),
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o640),
		unix.Mknod(filepath.Join(dir, "device"), unix.S_IFCHR|0o600, int(unix.Mkdev(300, 70000))),
		os.WriteFile(filepath.Join(dir, "empty"), nil, 0o644),
		os.Mkdir(filepath.Join(dir, "!before dots"), 0o1777),
		os.MkdirAll(filepath.Join(dir, "etc", "secrets"), 0o750),
		os.WriteFile(filepath.Join(dir, "etc", "secrets", "key"), []byte("secret"), 0o600),
		os.WriteFile(filepath.Join(dir, "etc", "name.pyc"), make([]byte, 5000), 0o644),
		os.WriteFile(filepath.Join(dir, "etc", "blocks"), []byte(strings.Repeat("0123456789abcdef", 3*4096)), 0o4755),
		os.Chown(filepath.Join(dir, "etc", "name.pyc"), 1000, 2000),
		os.Link(filepath.Join(dir, "etc", "blocks"), filepath.Join(dir, "etc", "link")),
		unix.Setxattr(filepath.Join(dir, "etc", "blocks"), "user.name", []byte("value"), 0),
	}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	return dir
}

func super(t *testing.T, image string) erofs.Super {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := erofs.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return fsys.Super()
}

func TestSharedOptionsDoWhatTheyDoInMkfsErofs(t *testing.T) {
	require.Root(t)
	peer := require.Tool(t, "mkfs.erofs")
	source := peerSource(t)
	contexts := filepath.Join(t.TempDir(), "file_contexts")
	const policy = "# a policy\n/.*  system_u:object_r:default_t:s0\n/etc(/.*)?  system_u:object_r:etc_t:s0\n" +
		"/etc/blocks  --  system_u:object_r:exact_t:s0\n/etc/.*  -d  system_u:object_r:dir_t:s0\n/etc/secrets/key  <<none>>\n/etc/name\\.pyc -d wrong:r:t:s0\n/etc/.*\\.pyc  system_u:object_r:pyc_t:s0\n"
	if err := os.WriteFile(contexts, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"none":                {},
		"-T":                  {"-T", "1234567890"},
		"-T hexadecimal":      {"-T0x1000"},
		"-U":                  {"-Uc1b9d5a2-f162-11cf-9ece-0020afc76f16", "-T0"},
		"-x":                  {"-x-1"},
		"-x 0":                {"-x0"},
		"-d":                  {"-d0"},
		"-E":                  {"-Enoinline_data"},
		"--all-root":          {"--all-root"},
		"--force-uid":         {"--force-uid=77", "--force-gid", "88"},
		"--preserve-mtime":    {"--preserve-mtime"},
		"--exclude-path":      {"--exclude-path=etc/secrets", "--exclude-path", "etc/name.pyc"},
		"--exclude-path part": {"--exclude-path=secrets"},
		"--exclude-regex":     {`--exclude-regex=\.pyc$`, "--exclude-regex=^etc/s.c"},
		"--chunksize":         {"--chunksize=4096"},
		"--blobdev":           {"--chunksize=65536", "--blobdev=DEVICE"},
		"--file-contexts":     {"--file-contexts=" + contexts},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			make := func(name string, program ...string) (image string, devices []string) {
				image = filepath.Join(dir, name)
				for _, arg := range args {
					if before, ok := strings.CutSuffix(arg, "DEVICE"); ok {
						devices = []string{image + ".device"}
						arg = before + devices[0]
					}
					program = append(program, arg)
				}
				program = append(program, image, source)
				if program[0] == "pagein" {
					if status, _, stderr := pagein(t, program...); status != exitSuccess {
						t.Fatalf("%q: status %d, %s", program, status, stderr)
					}
				} else if out, err := exec.Command(program[0], program[1:]...).CombinedOutput(); err != nil {
					t.Fatalf("%q: %v\n%s", program, err, out)
				}
				return image, devices
			}
			// Inodes of mkfs.erofs hold times only if they are extended.
			theirs, theirDevices := make("theirs", peer, "--quiet", "-Eforce-inode-extended")
			ours, ourDevices := make("ours", "pagein", "mkfs", "--quiet")
			treetest.Compare(t, erofstest.Mount(t, theirs, theirDevices...), erofstest.Mount(t, ours, ourDevices...))
			x, y := super(t, theirs), super(t, ours)
			if strings.HasPrefix(name, "-U") && (x.UUID != y.UUID || x.BuildTime != y.BuildTime) {
				t.Errorf("superblocks %+v and %+v", x, y)
			}
		})
	}
}
