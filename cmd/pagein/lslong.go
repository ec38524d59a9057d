package main

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// print writes lines for files.
func (l *lister) print(files []listed) error {
	if len(files) == 0 {
		return nil
	}
	l.said = true
	if l.json != nil {
		return l.printJSON(files)
	}
	out := bufio.NewWriter(l.w)
	if !l.long {
		for _, f := range files {
			fmt.Fprintln(out, quoteName(f.name))
		}
		return out.Flush()
	}
	rows := make([][4]string, len(files)) // links, owner, group, size
	var width [4]int
	for i, f := range files {
		rows[i] = [4]string{strconv.FormatUint(uint64(f.st.Nlink), 10), l.names.user(f.st.UID), l.names.group(f.st.GID), sizeColumn(f.st)}
		for k, s := range rows[i] {
			width[k] = max(width[k], len(s))
		}
	}
	for i, f := range files {
		row := rows[i]
		mark := " "
		if f.acl {
			mark = "+"
		}
		fmt.Fprintf(out, "%s%s %*s %-*s %-*s %*s %s %s", modeString(f.st.Mode), mark, width[0], row[0], width[1], row[1], width[2], row[2], width[3], row[3],
			timestamp(f.st).Format("2006-01-02 15:04"), quoteName(f.name))
		if f.target != "" {
			fmt.Fprintf(out, " -> %s", quoteName(f.target))
		}
		fmt.Fprintln(out)
	}
	return out.Flush()
}

// sizeColumn is the size, or of a device its numbers.
func sizeColumn(st erofs.Stat) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		major, minor := erofs.SplitRdev(st.Rdev)
		return fmt.Sprintf("%d, %d", major, minor)
	}
	return strconv.FormatInt(st.Size, 10)
}

// modeString writes type and permissions as ls(1) does.
func modeString(mode uint32) string {
	b := []byte("?rwxrwxrwx")
	for i, c := range map[uint32]byte{
		unix.S_IFREG: '-', unix.S_IFDIR: 'd', unix.S_IFLNK: 'l', unix.S_IFCHR: 'c', unix.S_IFBLK: 'b', unix.S_IFIFO: 'p', unix.S_IFSOCK: 's',
	} {
		if mode&unix.S_IFMT == i {
			b[0] = c
		}
	}
	for i := range 9 {
		if mode&(0o400>>i) == 0 {
			b[1+i] = '-'
		}
	}
	for _, special := range []struct {
		bit  uint32
		at   int
		with byte // execution permitted
	}{{unix.S_ISUID, 3, 's'}, {unix.S_ISGID, 6, 's'}, {unix.S_ISVTX, 9, 't'}} {
		if mode&special.bit == 0 {
			continue
		}
		if b[special.at] == '-' {
			b[special.at] = special.with - 'a' + 'A'
		} else {
			b[special.at] = special.with
		}
	}
	return string(b)
}

// quoteName returns a name as it is if a terminal can show it, and else quoted: with control bytes, bytes that are no UTF-8, or a quote that could be taken for
// ours.
func quoteName(name string) string {
	quoted := strconv.Quote(name)
	if plain := quoted[1 : len(quoted)-1]; plain == name || !strings.HasPrefix(name, `"`) && strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(plain) == name {
		return name
	}
	return quoted
}

// owners knows the names of users and groups in the image, as far as its own files tell. nil knows none.
type owners struct{ users, groups map[uint32]string }

// maxOwners bounds the files with names, in bytes: they are the image's, and not to be trusted.
const maxOwners = 1 << 20

func newOwners(tree *erofs.FS) *owners {
	return &owners{users: readNames(tree, "etc/passwd"), groups: readNames(tree, "etc/group")}
}

// readNames reads lines of the form NAME:PASSWORD:NUMBER:... What is wrong there is nothing that is worth a word.
func readNames(tree *erofs.FS, path string) map[uint32]string {
	f, err := tree.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(onlyRegular(f), maxOwners)) // what can be read is better than nothing
	names := map[uint32]string{}
	for line := range strings.Lines(string(b)) {
		fields := strings.Split(line, ":")
		if len(fields) < 3 || fields[0] == "" || quoteName(fields[0]) != fields[0] || strings.Contains(fields[0], " ") {
			continue
		}
		id, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			continue
		}
		if _, ok := names[uint32(id)]; !ok {
			names[uint32(id)] = fields[0]
		}
	}
	return names
}

// onlyRegular is a reader of a regular file, and of nothing for other files.
func onlyRegular(f fs.File) io.Reader {
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return strings.NewReader("")
	}
	return f
}

func (o *owners) user(id uint32) string {
	if o == nil {
		return nameOr(nil, id)
	}
	return nameOr(o.users, id)
}

func (o *owners) group(id uint32) string {
	if o == nil {
		return nameOr(nil, id)
	}
	return nameOr(o.groups, id)
}

func nameOr(names map[uint32]string, id uint32) string {
	if name, ok := names[id]; ok {
		return name
	}
	return strconv.FormatUint(uint64(id), 10)
}
