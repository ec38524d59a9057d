package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// jsonPath is a path in JSON, whose strings are Unicode. One that is no UTF-8 stands quoted, as in Go, in the second field; the first then shows U+FFFD for what
// it cannot.
type jsonPath struct {
	Path       string `json:"path"`
	QuotedPath string `json:"quotedPath,omitempty"`
}

func newJSONPath(path string) jsonPath {
	if utf8.ValidString(path) {
		return jsonPath{Path: path}
	}
	return jsonPath{Path: path, QuotedPath: quoteName(path)}
}

// jsonFile is a file in the answer of ls --json.
type jsonFile struct {
	jsonPath
	Type         string            `json:"type"`
	Mode         string            `json:"mode"` // permissions with set-ID bits, octal
	Links        uint32            `json:"links"`
	UID          uint32            `json:"uid"`
	GID          uint32            `json:"gid"`
	Size         int64             `json:"size"`
	Time         string            `json:"time"` // RFC 3339, but of any year: images have times that JSON's encoder refuses
	Inode        uint64            `json:"inode"`
	Device       string            `json:"device,omitempty"` // MAJOR:MINOR
	Target       string            `json:"target,omitempty"`
	QuotedTarget string            `json:"quotedTarget,omitempty"` // as quotedPath
	Xattrs       map[string][]byte `json:"xattrs,omitempty"`       // values in base64
}

// jsonList writes a list one by one, however long it gets. nil is a list that nobody asked for.
type jsonList struct {
	w      io.Writer
	begun  bool
	failed bool // nobody takes it any more
}

func (l *jsonList) add(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	head := "[\n  "
	if l.begun {
		head = ",\n  "
	}
	l.begun = true
	_, err = fmt.Fprintf(l.w, "%s%s", head, b)
	l.failed = err != nil
	return err
}

// end ends the list, which may be empty. What went wrong before is not said again.
func (l *jsonList) end() error {
	if l == nil || l.failed {
		return nil
	}
	tail := "\n]\n"
	if !l.begun {
		tail = "[]\n"
	}
	_, err := io.WriteString(l.w, tail)
	return err
}

func (l *lister) printJSON(files []listed) error {
	for _, f := range files {
		entry := jsonFile{
			jsonPath: newJSONPath(f.name), Type: erofs.TypeName(f.st.Mode), Mode: fmt.Sprintf("%04o", f.st.Mode&0o7777), Links: f.st.Nlink,
			UID: f.st.UID, GID: f.st.GID, Size: f.st.Size, Time: timestamp(f.st).Format(time.RFC3339Nano), Inode: f.st.Ino, Target: f.target,
		}
		if !utf8.ValidString(f.target) {
			entry.QuotedTarget = quoteName(f.target)
		}
		switch f.st.Mode & unix.S_IFMT {
		case unix.S_IFCHR, unix.S_IFBLK:
			major, minor := erofs.SplitRdev(f.st.Rdev)
			entry.Device = fmt.Sprintf("%d:%d", major, minor)
		}
		xattrs, err := f.h.Xattrs()
		if err != nil {
			l.fail(fmt.Errorf("%s: %w", quoteName(f.name), err))
		}
		for _, x := range xattrs {
			if entry.Xattrs == nil {
				entry.Xattrs = map[string][]byte{}
			}
			entry.Xattrs[x.Name] = x.Value
		}
		if err := l.json.add(entry); err != nil {
			return err
		}
	}
	return nil
}
