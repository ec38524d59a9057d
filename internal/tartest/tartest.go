// Package tartest writes the tar streams that tests feed to converters, and lets GNU tar unpack them.
package tartest

import (
	"archive/tar"
	"bytes"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/pagein/pagein/internal/require"
)

// Member is one entry of a tar.
type Member struct {
	tar.Header
	Data string
}

// File is a regular file of mode 0644 and time 5.
func File(name, data string) Member {
	return Member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(5, 0)}, data}
}

// Directory has time 6.
func Directory(name string, mode int64) Member {
	return Member{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, ModTime: time.Unix(6, 0)}}
}

// Symlink has time 7.
func Symlink(name, target string) Member {
	return Member{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, ModTime: time.Unix(7, 0)}}
}

// HardLink is another name for the member target.
func HardLink(name, target string) Member {
	return Member{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, ModTime: time.Unix(8, 0)}}
}

// Char is a character device of mode 0666 and time 9.
func Char(name string, major, minor int64) Member {
	return Member{Header: tar.Header{Typeflag: tar.TypeChar, Name: name, Mode: 0o666, Devmajor: major, Devminor: minor, ModTime: time.Unix(9, 0)}}
}

// Fifo is a named pipe of mode 0600 and time 9.
func Fifo(name string) Member {
	return Member{Header: tar.Header{Typeflag: tar.TypeFifo, Name: name, Mode: 0o600, ModTime: time.Unix(9, 0)}}
}

// With adds extended attributes, given as names and values in turn.
func (m Member) With(xattrs ...string) Member {
	m.Format, m.PAXRecords = tar.FormatPAX, map[string]string{}
	for i := 0; i+1 < len(xattrs); i += 2 {
		m.PAXRecords["SCHILY.xattr."+xattrs[i]] = xattrs[i+1]
	}
	return m
}

// Archive writes a tar stream with the standard library.
func Archive(t testing.TB, members ...Member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatalf("%q: %v", m.Name, err)
		}
		if _, err := io.WriteString(w, m.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Extract lets GNU tar unpack a stream over what is in dir, with owners and extended attributes.
func Extract(t testing.TB, stream []byte, dir string) {
	t.Helper()
	cmd := exec.Command(require.Tool(t, "tar"), "-x", "-p", "--delay-directory-restore", "-C", dir, "--numeric-owner", "--same-owner", "--xattrs", "--xattrs-include=*", "-f", "-")
	cmd.Stdin = bytes.NewReader(stream)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar -x: %v\n%s", err, out)
	}
}
