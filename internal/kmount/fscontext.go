package kmount

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// maxMessages bounds what is read of a context's log: the kernel keeps 8 entries per context (struct fc_log, include/linux/fs_context.h).
const maxMessages = 8

// fsContext is a file system being configured (fsopen(2)). It belongs to one goroutine.
type fsContext struct{ fd int }

func openEROFS() (*fsContext, error) {
	fd, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, failed("fsopen erofs", err, nil)
	}
	return &fsContext{fd}, nil
}

func (c *fsContext) close() { unix.Close(c.fd) }

// set gives the context one option.
func (c *fsContext) set(key, value string) error {
	if err := unix.FsconfigSetString(c.fd, key, value); err != nil {
		return failed("fsconfig "+key+"="+value, err, c.messages())
	}
	return nil
}

// create makes the superblock: this is where the kernel reads the image.
func (c *fsContext) create() error {
	if err := unix.FsconfigSetFlag(c.fd, "ro"); err != nil {
		return failed("fsconfig ro", err, c.messages())
	}
	if err := unix.FsconfigCreate(c.fd); err != nil {
		return failed("fsconfig create", err, c.messages())
	}
	return nil
}

// mount returns a descriptor of a mount of the created superblock that is attached nowhere.
func (c *fsContext) mount() (int, error) {
	mnt, err := unix.Fsmount(c.fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return -1, failed("fsmount", err, c.messages())
	}
	return mnt, nil
}

// messages takes the kernel's messages out of the context's log, without their level.
func (c *fsContext) messages() []string {
	var all []string
	buf := make([]byte, 4096)
	for len(all) < maxMessages {
		n, err := unix.Read(c.fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			break
		}
		text := strings.TrimSpace(string(buf[:n]))
		// "e ", "w " or "i " stands before the text (fs/fsopen.c).
		if len(text) > 2 && text[1] == ' ' {
			text = text[2:]
		}
		all = append(all, text)
	}
	return all
}

// maxMounts bounds how often a mount is made until it is known what it reads through. Each takes some milliseconds.
const maxMounts = 50

// openMount makes a superblock and a mount of it, which reads through what has appeared meanwhile. If that is more than one, somebody else has mounted something at that moment: then the
// mount is given up and made once more.
func openMount(spec EROFS) (*Detached, error) {
	for made := 1; ; made++ {
		before := backings()
		fd, err := makeMount(spec)
		if err != nil {
			return nil, err
		}
		d := &Detached{fd: fd}
		names := appeared(before)
		if len(names) == 1 {
			d.backing = names[0]
		}
		if len(names) <= 1 || made == maxMounts {
			return d, nil
		}
		if err := d.Close(); err != nil {
			return nil, failed("close", err, nil)
		}
	}
}

// makeMount makes a superblock and a mount of it, and returns its descriptor.
func makeMount(spec EROFS) (int, error) {
	c, err := openEROFS()
	if err != nil {
		return -1, err
	}
	defer c.close()
	options := [][2]string{}
	if spec.Source != "" {
		options = append(options, [2]string{"source", spec.Source})
	}
	if spec.Fsid != "" {
		options = append(options, [2]string{"fsid", spec.Fsid})
	}
	if spec.Domain != "" {
		options = append(options, [2]string{"domain_id", spec.Domain})
	}
	for _, d := range spec.Devices {
		options = append(options, [2]string{"device", d})
	}
	for _, o := range options {
		if err := c.set(o[0], o[1]); err != nil {
			return -1, err
		}
	}
	if err := c.create(); err != nil {
		return -1, err
	}
	return c.mount()
}
