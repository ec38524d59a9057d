package main

import (
	"fmt"
	"strings"
)

// mkfsExtended is an extended option, of which -E takes a list with commas.
type mkfsExtended struct {
	name    string // without the "^" that turns it round
	help    string
	refused string // why, "" if the option is taken
	set     func(m *mkfsRun, off bool)
}

// noCompressedIndexes is why the many extended options about compression are refused.
const noCompressedIndexes = "images are not compressed; leave it out"

// mkfsExtendedOptions are the extended options, those of mkfs.erofs 1.9 all among them.
func mkfsExtendedOptions() []mkfsExtended {
	nothing := func(*mkfsRun, bool) {}
	all := []mkfsExtended{
		{name: "force-inode-extended", help: "does nothing: inodes have room for all attributes anyway", set: nothing},
		{name: "force-chunk-indexes", help: "does nothing: files in several pieces have such indexes anyway", set: nothing},
		{name: "inline_data", help: "^inline_data keeps the data of files out of the metadata, as FSDAX needs it", set: func(m *mkfsRun, off bool) { m.image.NoInline = off }},
		{name: "noinline_data", help: "the same as ^inline_data", set: func(m *mkfsRun, off bool) { m.image.NoInline = !off }},
		{name: "xattr-name-filter", help: "does nothing: names of attributes have filters anyway", set: nothing},

		{name: "force-inode-compact", refused: "such inodes cannot hold the times and owners of all files; leave it out"},
		{name: "force-inode-blockmap", refused: "such maps cannot name a device; leave it out"},
		{name: "nosbcrc", refused: "kernels that do not know the checksum pass over it; leave it out"},
		{name: "48bit", refused: plainLayout},
		{name: "dot-omitted", refused: plainLayout},
		{name: "plain-xattr-prefixes", refused: plainLayout},
	}
	for _, name := range []string{"legacy-compress", "ztailpacking", "fragments", "all-fragments", "fragdedupe", "dedupe"} {
		all = append(all, mkfsExtended{name: name, refused: noCompressedIndexes})
	}
	return all
}

func setExtended(m *mkfsRun, value string) error {
	for item := range strings.SplitSeq(value, ",") {
		if err := setOneExtended(m, item); err != nil {
			return err
		}
	}
	return nil
}

func setOneExtended(m *mkfsRun, item string) error {
	word, off := strings.CutPrefix(item, "^")
	name, _, valued := strings.Cut(word, "=")
	for _, o := range mkfsExtendedOptions() {
		switch {
		case o.name != name:
		case off && o.refused != "":
			return nil // it is off
		case o.refused != "":
			return fmt.Errorf("%s: %s", name, o.refused)
		case valued:
			return fmt.Errorf("%s takes no value", name)
		default:
			o.set(m, off)
			return nil
		}
	}
	return fmt.Errorf("there is no extended option %q", item)
}
