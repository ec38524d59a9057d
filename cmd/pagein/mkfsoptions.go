package main

import (
	"crypto/rand"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/mkfs"
)

// Why options of mkfs.erofs are refused, where several share a reason.
const (
	notCompressed = "images are not compressed, so that pages of them can be served as they are; leave the option out, or use mkfs.erofs for compressed images"
	plainLayout   = "images keep to what Linux 5.16 can mount; leave the option out"
	ownCommand    = "\"pagein convert\" reads images of registries"
)

// mkfsOptions are the options of "pagein mkfs", those of mkfs.erofs 1.9 all among them. The man page has them in the same order.
func mkfsOptions() []mkfsOption {
	return append(append([]mkfsOption{
		{name: "b", value: "BYTES", help: "block size: must be 4096", set: setBlockSize},
		{name: "d", value: "LEVEL", help: "0 or 1: print errors only; 2 to 9: notes too", set: setLevel},
		{name: "E", value: "OPTION,...", help: "extended options: see the man page", set: setExtended},
		{name: "L", value: "LABEL", help: "volume label of up to 15 bytes", set: setLabel},
		{name: "T", value: "SECONDS", help: "give the image and all files this time, in seconds since 1970", set: setTime},
		{name: "all-time", help: "with -T: files get the time too, as without this option", set: func(m *mkfsRun, _ string) error { m.imageTime = false; return nil }},
		{name: "mkfs-time", help: "with -T: only the image gets the time, not the files", set: func(m *mkfsRun, _ string) error { m.imageTime = true; return nil }},
		{name: "U", value: "UUID", help: "UUID of the file system, clear or random; derived from names and attributes without the option", set: setUUID},
		{name: "x", value: "N", help: "below 0: leave out extended attributes; other values change nothing, as sharing them is decided by size", set: setXattrs},
		{name: "all-root", help: "make root the owner of all files", set: func(m *mkfsRun, _ string) error { m.image.UID, m.image.GID = new(uint32), new(uint32); return nil }},
		{name: "force-uid", value: "UID", help: "owner of all files", set: func(m *mkfsRun, v string) (err error) { m.image.UID, err = parseID(v); return err }},
		{name: "force-gid", value: "GID", help: "group of all files", set: func(m *mkfsRun, v string) (err error) { m.image.GID, err = parseID(v); return err }},
		{name: "uid-offset", value: "N", help: "add N to all owners", set: func(m *mkfsRun, v string) error { return setNumber(&m.image.UIDOffset, v) }},
		{name: "gid-offset", value: "N", help: "add N to all groups", set: func(m *mkfsRun, v string) error { return setNumber(&m.image.GIDOffset, v) }},
		{name: "preserve-mtime", help: "keep the times of files, as always", set: func(*mkfsRun, string) error { return nil }},
		{name: "hard-dereference", help: "make each further name of a file a file of its own", set: func(m *mkfsRun, _ string) error { m.image.NoLinks = true; return nil }},
		{name: "exclude-path", value: "PATH", help: "leave out the file with this path below the source; may be repeated", set: setExcludePath},
		{name: "exclude-regex", value: "REGEX", help: "leave out files whose path matches the extended regular expression; may be repeated", set: setExcludeRegex},
		{name: "file-contexts", value: "FILE", help: "give files the SELinux labels of this file_contexts file", set: setFileContexts},
		{name: "mount-point", value: "PATH", help: "where the image will be mounted, for --file-contexts", set: setMountPoint},
		{name: "blobdev", value: "PATH", help: "put file data in a separate device, tagged with its SHA-256", set: func(m *mkfsRun, v string) error { m.image.BlobDev = v; return notEmpty(v) }},
		{name: "chunksize", value: "BYTES", help: "store files in chunks, equal ones once: a power of two from 4096 to 16777216", set: setChunkSize},
		{name: "tar", value: "f", optional: true, help: "SOURCE is a tar archive, standard input if it is - or missing", set: setTar},
		{name: "aufs", help: "turn whiteouts of a tar into those of overlayfs", set: func(m *mkfsRun, _ string) error { m.image.OverlayWhiteouts = true; return nil }},
		{name: "ovlfs-strip", value: "0|1", optional: true, help: "leave out whiteouts and opaque marks of overlayfs", set: setStrip},
		{name: "ungzip", help: "do nothing: gzip and zstd are recognized", set: func(*mkfsRun, string) error { return nil }},
		{name: "gzip", help: "the same", set: func(*mkfsRun, string) error { return nil }},
		{name: "sort", value: "none|path", help: "do nothing: data lies in the order of the source, which for a directory is that of paths", set: setSort},
		{name: "clean", value: "data", optional: true, help: "do nothing: the image is made anew", set: setClean},
		{name: "xattr-inode-digest", value: "NAME", optional: true, help: "store digests of files, by which Linux 7.0 and later share their pages", set: setDigestXattr},
		{name: "workers", value: "N", help: "use at most N processors", set: setWorkers},
		{name: "quiet", help: "print nothing but errors", set: func(m *mkfsRun, _ string) error { m.quiet = true; return nil }},
		{name: "json", help: "print the summary as JSON", set: func(m *mkfsRun, _ string) error { m.json = true; return nil }},
		{name: "version", help: "print the version", set: setVersion},
		{name: "V", help: "the same", set: setVersion},
		{name: "help", help: "print this", set: func(*mkfsRun, string) error { return errHelp }},
		{name: "h", help: "the same", set: func(*mkfsRun, string) error { return errHelp }},
	}, refusedCompression()...), refusedOthers()...)
}

// refusedCompression are the options of mkfs.erofs about compression.
func refusedCompression() []mkfsOption {
	var all []mkfsOption
	for _, o := range []mkfsOption{
		{name: "z", value: "X"}, {name: "C", value: "BYTES"}, {name: "m", value: "BYTES"}, {name: "zD", value: "0|1", optional: true},
		{name: "compress-hints", value: "FILE"}, {name: "max-extent-bytes", value: "BYTES"}, {name: "zfeature-bits", value: "N"},
		{name: "random-pclusterblks"}, {name: "random-algorithms"},
	} {
		o.refused = notCompressed
		all = append(all, o)
	}
	return all
}

// refusedOthers are the other options of mkfs.erofs that are not taken.
func refusedOthers() []mkfsOption {
	return []mkfsOption{
		{name: "MZ", value: "ID", optional: true, refused: "metadata always lies together; leave the option out"},
		{name: "ignore-mtime", refused: "inodes have room for times here, so leaving them out would save nothing; -T gives all files one time"},
		{name: "dsunit", value: "BLOCKS", refused: "data is aligned to blocks only; leave the option out"},
		{name: "fsalignblks", value: "BLOCKS", refused: "an image has whole blocks of 4096 bytes; for more, extend the file with truncate -s %N"},
		{name: "offset", value: "BYTES", refused: "an image begins where its file does; write FILE as - and let dd put it in its place"},
		{name: "root-xattr-isize", value: "BYTES", refused: "images are not changed once they are made; leave the option out"},
		{name: "xattr-prefix", value: "PREFIX", refused: plainLayout},
		{name: "incremental", value: "MODE", optional: true, refused: "images are made anew; leave the option out"},
		{name: "async-queue-limit", value: "N", refused: "memory is bounded anyway; leave the option out"},
		{name: "unxz", value: "FILE", optional: true, refused: "pipe the output of xz -dc into --tar with - as SOURCE"},
		{name: "unlzma", value: "FILE", optional: true, refused: "pipe the output of xz -dc into --tar with - as SOURCE"},
		{name: "gzinfo", value: "FILE", optional: true, refused: "\"pagein convert\" makes images that are read lazily"},
		{name: "oci", value: "f|i", optional: true, refused: ownCommand},
		{name: "s3", value: "ENDPOINT", refused: "copy the objects to a directory first"},
		{name: "vmdk-desc", value: "FILE", refused: "virtual disks are not described; leave the option out"},
		{name: "product-out", value: "DIR", refused: "it is about Android's build; use Android's mkfs.erofs"},
		{name: "fs-config-file", value: "FILE", refused: "it is about Android's build; use Android's mkfs.erofs"},
	}
}

func setBlockSize(_ *mkfsRun, value string) error {
	if value != strconv.Itoa(erofs.BlockSize) {
		return fmt.Errorf("%s: blocks have %d bytes, the page size that kernels before 6.4 want them to have", value, erofs.BlockSize)
	}
	return nil
}

func setLevel(m *mkfsRun, value string) error {
	level, err := strconv.ParseUint(value, 10, 64)
	if err != nil || level > 9 {
		return fmt.Errorf("%s: want 0 to 9", value)
	}
	m.noNotes = level < 2
	return nil
}

func setLabel(m *mkfsRun, value string) error {
	const longest = 15
	if len(value) > longest {
		return fmt.Errorf("label %q is longer than %d bytes", value, longest)
	}
	m.image.Label = value
	return nil
}

func setTime(m *mkfsRun, value string) error {
	seconds, err := strconv.ParseInt(value, 0, 64)
	if err != nil {
		return fmt.Errorf("%q is no number of seconds", value)
	}
	m.time = &seconds
	return nil
}

func setUUID(m *mkfsRun, value string) error {
	var uuid [16]byte
	switch value {
	case "clear":
	case "random":
		rand.Read(uuid[:])            // never fails
		uuid[6] = uuid[6]&0x0f | 0x40 // version 4: random (RFC 9562)
		uuid[8] = uuid[8]&0x3f | 0x80
	default:
		var err error
		if uuid, err = parseUUID(value); err != nil {
			return err
		}
	}
	m.image.UUID = &uuid
	return nil
}

func setXattrs(m *mkfsRun, value string) error {
	n, err := strconv.ParseInt(value, 0, 64)
	if err != nil {
		return fmt.Errorf("%q is no number", value)
	}
	m.image.NoXattrs = n < 0
	return nil
}

func parseID(value string) (*uint32, error) {
	id := new(uint32)
	return id, setNumber(id, value)
}

func setNumber(to *uint32, value string) error {
	n, err := strconv.ParseUint(value, 0, 32)
	if err != nil {
		return fmt.Errorf("%q is no number up to %d", value, uint32(1<<32-1))
	}
	*to = uint32(n)
	return nil
}

func setMountPoint(m *mkfsRun, value string) error {
	m.image.MountPoint = strings.TrimRight(path.Clean("/"+value), "/")
	return nil
}

func setChunkSize(m *mkfsRun, value string) error {
	n, err := strconv.ParseInt(value, 0, 64)
	if err != nil || n < erofs.BlockSize || n > mkfs.MaxChunkSize || n&(n-1) != 0 {
		return fmt.Errorf("%s: want a power of two from %d to %d", value, erofs.BlockSize, mkfs.MaxChunkSize)
	}
	m.image.ChunkSize = n
	return nil
}

func setTar(m *mkfsRun, value string) error {
	if value != "" && value != "f" {
		return fmt.Errorf("%s: only f, a full image, is made", value)
	}
	m.tar = true
	return nil
}

func setStrip(m *mkfsRun, value string) error {
	if value != "" && value != "0" && value != "1" {
		return fmt.Errorf("%s: want 0 or 1", value)
	}
	m.image.NoMarkers = value != "0"
	return nil
}

func setSort(_ *mkfsRun, value string) error {
	if value != "none" && value != "path" {
		return fmt.Errorf("%s: want none or path", value)
	}
	return nil
}

func setClean(_ *mkfsRun, value string) error {
	if value != "" && value != "data" {
		return fmt.Errorf("%s: only data, an image with its data, is made", value)
	}
	return nil
}

func setWorkers(m *mkfsRun, value string) error {
	n, err := strconv.ParseUint(value, 0, 31)
	if err != nil {
		return fmt.Errorf("%q is no number of processors", value)
	}
	m.workers = int(n)
	return nil
}

func setDigestXattr(m *mkfsRun, value string) error {
	if value == "" {
		value = erofs.DefaultDigestXattr
	}
	m.image.DigestXattr = value
	return nil
}

func setVersion(m *mkfsRun, _ string) error {
	m.version = true
	return nil
}

func notEmpty(value string) error {
	if value == "" {
		return fmt.Errorf("the value is empty")
	}
	return nil
}
