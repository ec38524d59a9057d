package erofs

import "math/bits"

// The primes of XXH32. Source: the xxHash specification, doc/xxhash_spec.md of the xxHash project.
const (
	xxPrime1 = 0x9E3779B1
	xxPrime2 = 0x85EBCA77
	xxPrime3 = 0xC2B2AE3D
	xxPrime4 = 0x27D4EB2F
	xxPrime5 = 0x165667B1
)

// xxh32 is the 32-bit xxHash of s.
func xxh32(s string, seed uint32) uint32 {
	h := seed + xxPrime5
	size := uint32(len(s))
	if len(s) >= 16 {
		lanes := [4]uint32{seed + xxPrime1 + xxPrime2, seed + xxPrime2, seed, seed - xxPrime1}
		for ; len(s) >= 16; s = s[16:] {
			for i := range lanes {
				lanes[i] = bits.RotateLeft32(lanes[i]+word(s[4*i:])*xxPrime2, 13) * xxPrime1
			}
		}
		h = 0
		for i, rotation := range [4]int{1, 7, 12, 18} {
			h += bits.RotateLeft32(lanes[i], rotation)
		}
	}
	h += size
	for ; len(s) >= 4; s = s[4:] {
		h = bits.RotateLeft32(h+word(s)*xxPrime3, 17) * xxPrime4
	}
	for i := range len(s) {
		h = bits.RotateLeft32(h+uint32(s[i])*xxPrime5, 11) * xxPrime1
	}
	h = (h ^ h>>15) * xxPrime2
	h = (h ^ h>>13) * xxPrime3
	return h ^ h>>16
}

// word is the little-endian number in the first four bytes of s.
func word(s string) uint32 {
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}
