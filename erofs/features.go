package erofs

import "fmt"

// Features returns the names of what an image uses: features that a reader may ignore, and such that it must know. Bits without a name are numbers.
func (s Super) Features() (compat, incompat []string) {
	return featureNames(s.Compat, compatName), featureNames(s.Incompat, incompatName)
}

func featureNames(bits uint32, name func(bit uint32) string) []string {
	names := []string{}
	for ; bits != 0; bits &= bits - 1 {
		bit := bits & -bits
		if n := name(bit); n != "unknown" {
			names = append(names, n)
		} else {
			names = append(names, fmt.Sprintf("%#x", bit))
		}
	}
	return names
}

func compatName(bit uint32) string {
	switch bit {
	case compatChecksum:
		return "SB_CHKSUM"
	case compatMtime:
		return "MTIME"
	case compatXattrFilter:
		return "XATTR_FILTER"
	case 0x8:
		return "SHARED_EA_IN_METABOX"
	case compatPlainPrefixes:
		return "PLAIN_XATTR_PFX"
	case compatDigestXattrs:
		return "ISHARE_XATTRS"
	}
	return "unknown"
}

// incompatName names bits as they are used here: 0x2 and 0x8 have two meanings. Some are listed only because they are refused.
func incompatName(bit uint32) string {
	switch bit {
	case incompatZeroPadding:
		return "LZ4_0PADDING"
	case incompatComprCfgs:
		return "COMPR_CFGS"
	case incompatChunkedFile:
		return "CHUNKED_FILE"
	case incompatDeviceTable:
		return "DEVICE_TABLE"
	case 0x10:
		return "ZTAILPACKING"
	case 0x20:
		return "FRAGMENTS or DEDUPE"
	case incompatLongPrefixes:
		return "XATTR_PREFIXES"
	case 0x80:
		return "48BIT"
	case 0x100:
		return "METABOX"
	}
	return "unknown"
}
