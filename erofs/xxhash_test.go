package erofs

import "testing"

// Values for seed 0 are from the xxHash project's own documentation and tests.
func TestXXH32(t *testing.T) {
	tests := []struct {
		in   string
		seed uint32
		want uint32
	}{
		{"", 0, 0x02CC5D05},
		{"a", 0, 0x550D7456},
		{"abc", 0, 0x32D153FF},
		{"Nobody inspects the spammish repetition", 0, 0xE2293B2F},
	}
	for _, tt := range tests {
		if got := xxh32(tt.in, tt.seed); got != tt.want {
			t.Errorf("xxh32(%q, %d) = %#x, want %#x", tt.in, tt.seed, got, tt.want)
		}
	}
}

// Linux 7.0 has these two bits written out, in erofs_inode_has_noacl, to know inodes without ACLs.
func TestFilterBitsOfACLs(t *testing.T) {
	for name, want := range map[string]uint32{"system.posix_acl_access": 1 << 30, "system.posix_acl_default": 1 << 21} {
		index, suffix, err := splitXattr(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := xattrFilterBit(index, suffix); got != want {
			t.Errorf("%s: bit %#x, want %#x", name, got, want)
		}
	}
}
