package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/bench/link"
)

// program is something that starts, says that it is ready, and ends.
type program struct {
	name, says string // says: part of what it prints
	args       []string
}

// programs are in [inputs.Programs].
func programs() []program {
	return []program{
		{"python3", "hello", []string{"python3", "-c", "import asyncio, http.client, json, sqlite3; print('hello')"}},
		{"gcc", "hello", []string{"sh", "-c", `cd /tmp && echo 'int puts(const char *); int main(void) { return puts("hello") < 0; }' >h.c && gcc -O2 -o h h.c && ./h`}},
		{"node", "hello", []string{"node", "-e", "console.log('hello')"}},
		{"rclone", "rclone v", []string{"rclone", "version"}},
	}
}

// command is what runs the program with an image's directory as its root.
func (p program) command(root string) []string {
	return append([]string{"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "chroot", root}, p.args...)
}

// rooted makes /tmp and /proc below root what programs expect, has it used, and takes both away again.
func rooted(root string, use func() error) (err error) {
	tmp, proc := filepath.Join(root, "tmp"), filepath.Join(root, "proc")
	if err := unix.Mount("tmpfs", tmp, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", tmp, err)
	}
	defer func() { err = errors.Join(err, unix.Unmount(tmp, unix.MNT_DETACH)) }()
	if err := unix.Mount("proc", proc, "proc", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", proc, err)
	}
	defer func() { err = errors.Join(err, unix.Unmount(proc, unix.MNT_DETACH)) }()
	return use()
}

// run runs the program to its end.
func (p program) run(ctx context.Context, root string) error {
	return rooted(root, func() error {
		command := p.command(root)
		out, err := lab.Output(lab.Command(ctx, command[0], command[1:]...))
		if err == nil && !bytes.Contains(out, []byte(p.says)) {
			err = fmt.Errorf("%s printed %q, want %q in it", p.name, out, p.says)
		}
		return err
	})
}

// ready is what it cost until a program was ready, from the mount on.
type ready struct {
	seconds   float64
	megabytes float64 // that came over the link
	waits     int     // reads that waited for the network
	joined    int     // of these, for something that was on its way already
}

// cold mounts an image over a link to a server, with nothing of it on this machine, and runs a program to its end.
func (b *bench) cold(ctx context.Context, server, ref string, p program) (r ready, err error) {
	dir, err := os.MkdirTemp(b.dir, "cold-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, lab.UnmountBelow(dir), os.RemoveAll(dir)) }()
	shape := slowLink
	shape.Target = server
	l, err := link.Start(shape)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	node, err := lab.StartNode(ctx, dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, node.Stop()) }()
	r.seconds, err = b.timed(ctx, node, l.Addr()+"/"+ref, p, func(mnt string) error {
		r.megabytes = float64(l.Counters().Down) / 1e6
		waits, err := node.Waits(ctx, mnt)
		r.waits, r.joined = waits.Count, waits.Joined
		return err
	})
	return r, err
}

// timed is how many seconds mounting an image and running a program to its end takes, with an empty page cache. The image is then looked at, and unmounted.
func (b *bench) timed(ctx context.Context, node *lab.Node, ref string, p program, look func(mnt string) error) (seconds float64, err error) {
	err = b.mounted(ctx, node, ref, func(mnt string, began time.Time) error {
		if err := p.run(ctx, mnt); err != nil {
			return err
		}
		seconds = time.Since(began).Seconds()
		return look(mnt)
	})
	return seconds, err
}
