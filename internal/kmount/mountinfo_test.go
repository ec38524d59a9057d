package kmount

import (
	"strings"
	"testing"
)

func TestMountinfoLinesAreUnescaped(t *testing.T) {
	for _, c := range []struct {
		line string
		want Info
		bad  bool
	}{
		{
			line: `36 35 98:0 /mnt1 /a\040b\134c\011d rw,noatime master:1 propagate_from:2 - erofs /img\040one ro,fsid=x,domain_id=y`,
			want: Info{36, 35, "98:0", "/mnt1", "/a b\\c\td", "rw,noatime", "erofs", "/img one", "ro,fsid=x,domain_id=y"},
		},
		{
			line: `36 35 0:45 / /m\q\99 ro - fuse.x none rw`,
			want: Info{36, 35, "0:45", "/", `/m\q\99`, "ro", "fuse.x", "none", "rw"},
		},
		{line: "", bad: true},
		{line: "36 35 98:0 / /m rw master:1", bad: true},
		{line: "36 35 98:0 / - erofs x ro", bad: true},
		{line: "x 35 98:0 / /m rw - erofs x ro", bad: true},
		{line: "36 x 98:0 / /m rw - erofs x ro", bad: true},
	} {
		got, err := parseLine(c.line)
		if (err != nil) != c.bad || !c.bad && got != c.want {
			t.Errorf("%q: got %+v, %v", c.line, got, err)
		}
	}
	if v := (Info{SuperOptions: "ro,fsid=x,domain_id=y"}).Option("domain_id"); v != "y" {
		t.Errorf("domain_id is %q", v)
	}
	if v := (Info{SuperOptions: "ro,xfsid=x"}).Option("fsid"); v != "" {
		t.Errorf("fsid is %q", v)
	}
}

func FuzzMountinfoLine(f *testing.F) {
	f.Add(`36 35 98:0 /mnt1 /a\040b rw,noatime master:1 - erofs /img ro,fsid=x`)
	f.Add(` -   `)
	f.Fuzz(func(t *testing.T, line string) {
		m, err := parseLine(line)
		if err == nil && len(m.Target) > len(line) {
			t.Errorf("%q became longer: %+v", line, m)
		}
		if err == nil && !strings.Contains(line, " - ") {
			t.Errorf("%q accepted", line)
		}
	})
}
