package tarstream

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestACLsBecomeTheAttributesOfLinux(t *testing.T) {
	const (
		base  = "\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff"
		group = "\x04\x00\x05\x00\xff\xff\xff\xff"
		rest  = "\x10\x00\x05\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
		lisa  = "\x02\x00\x05\x00\xf6\x01\x00\x00"
	)
	for name, tc := range map[string]struct {
		record  string
		want    string // value of the attribute, empty for none
		leftOut bool
	}{
		"number for a name":     {"access=user::rwx,user:502:r-x,group::r-x,mask::r-x,other::---", base + lisa + group + rest, false},
		"name and number":       {"access=user::rwx,user:lisa:r-x:502,group::r-x,mask::r-x,other::---", base + lisa + group + rest, false},
		"lines, other order":    {"access=other::---\nmask::r-x\ngroup::r-x\nuser:502:r-x\nuser::rwx\n", base + lisa + group + rest, false},
		"groups":                {"access=user::rwx,group::r-x,group:9:r-x,mask::r-x,other::---", base + group + "\x08\x00\x05\x00\x09\x00\x00\x00" + rest, false},
		"default, short":        {"default=user::rwx,group::r-x,other::---", base + group + "\x20\x00\x00\x00\xff\xff\xff\xff", false},
		"what the mode says":    {"access=user::rwx,group::r-x,other::---", "", false},
		"a name alone":          {"access=user::rwx,user:lisa:r-x,group::r-x,mask::r-x,other::---", "", true},
		"no mask":               {"access=user::rwx,user:502:r-x,group::r-x,other::---", "", true},
		"no owner":              {"access=user:502:r-x,group::r-x,mask::r-x,other::---", "", true},
		"twice the same":        {"access=user::rwx,user:5:r-x,user:5:rwx,group::r-x,mask::r-x,other::---", "", true},
		"odd permissions":       {"access=user::rws,group::r-x,other::---", "", true},
		"rights of NFS":         {"access=user::rwx:deny,group::r-x,other::---", "", true},
		"ID that is no ID":      {"access=user::rwx,user:4294967295:r-x,group::r-x,mask::r-x,other::---", "", true},
		"kind that nobody has":  {"access=user::rwx,robot:1:r-x,group::r-x,mask::r-x,other::---", "", true},
		"NFSv4":                 {"ace=owner@:rwx:::allow", "", true},
		"fields that are wrong": {"access=user", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			headers, _, err := readAll(slices.Concat(pax("x", "SCHILY.acl."+tc.record), sized("f", ""), end))
			if err != nil {
				t.Fatal(err)
			}
			h := headers[0]
			var got string
			for _, x := range h.Xattrs {
				got += string(x.Value)
				if kind, _, _ := strings.Cut(tc.record, "="); x.Name != "system.posix_acl_"+kind {
					t.Errorf("name %q", x.Name)
				}
			}
			if got != tc.want || tc.leftOut != (len(h.LeftOut) == 1) {
				t.Errorf("got %x, left out %q; want %x", got, h.LeftOut, tc.want)
			}
		})
	}
}

func TestAnACLThatAnAttributeHoldsIsNotLeftOut(t *testing.T) {
	const names = "SCHILY.acl.default=user::rwx,user:lisa:r-x,group::r-x,mask::r-x,other::---"
	attribute := "SCHILY.xattr.system.posix_acl_default=" + string(encodeACL(nil))
	for _, order := range [][]string{{names, attribute}, {attribute, names}} {
		headers, _, err := readAll(slices.Concat(pax("x", order...), sized("f", ""), end))
		if err != nil || len(headers[0].LeftOut) > 0 || len(headers[0].Xattrs) != 1 {
			t.Errorf("%q: %+v, %v", order, headers[0], err)
		}
	}
	headers, _, err := readAll(slices.Concat(pax("x", names), sized("f", ""), end))
	if err != nil || len(headers[0].LeftOut) != 1 || !strings.Contains(headers[0].LeftOut[0].Why, `"user:lisa:r-x"`) {
		t.Errorf("%+v, %v", headers[0], err)
	}
}

func TestSELinuxLabelsEndInANUL(t *testing.T) {
	headers, _, err := readAll(slices.Concat(pax("x", "RHT.security.selinux=system_u:object_r:bin_t:s0"), sized("f", ""), end))
	if err != nil {
		t.Fatal(err)
	}
	if x := headers[0].Xattrs; len(x) != 1 || x[0].Name != "security.selinux" || !bytes.Equal(x[0].Value, []byte("system_u:object_r:bin_t:s0\x00")) {
		t.Errorf("got %q", x)
	}
}
