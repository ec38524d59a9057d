// Package keeper keeps the file descriptors that mounts depend on in a second, tiny process, so that the daemon's death costs no mount.
//
// A fanotify group whose last descriptor is closed lets every reader see zeros; a cachefiles device whose last descriptor is closed breaks
// its mounts for good. The daemon therefore gives such descriptors away, under names, before the kernel comes to rely on them, and its
// successor takes them back. The keeper knows nothing of what it keeps and never reads from it.
//
// The words are systemd's, so that one piece of code talks to both. Giving away is sd_notify(3): datagrams FDSTORE=1, FDSTOREREMOVE=1 and
// BARRIER=1 with FDNAME and SCM_RIGHTS. Taking back is either sd_listen_fds(3), for descriptors inherited from systemd or a supervisor, or
// a datagram PAGEIN_ATTACH=1 that carries one end of a SOCK_SEQPACKET pair: the keeper answers on it with packets "LISTEN_FDS=n",
// "LISTEN_FDNAMES=a:b" and n descriptors, the last of which has n = 0. Thereafter the pair is the lifeline: each side sees the other's death by
// its closing.
//
// Two rules differ from systemd's. A descriptor under a name that is held replaces the one held (systemd keeps both). And the keeper writes
// "ok" or the reason of a refusal into a barrier's pipe before it closes it (systemd closes it only).
//
// A keeper ends when nobody is attached and nothing needs it: it holds nothing, or the descriptor named [MountsName], an inotify instance
// on which the daemon watches the root of each superblock that it has mounted, has no watches left. An inotify watch does not keep a
// superblock busy and goes away when, and only when, the superblock dies, after the last bind mount and the last open file.
package keeper

import "time"

const (
	// MountsName is the name of the inotify instance whose watches stand for mounted superblocks.
	MountsName = "mounts"
	// MaxHeld is how many descriptors one keeper holds at most; RLIMIT_NOFILE can lower it.
	MaxHeld = 16384
	// MaxName is the longest name in bytes (FDNAME_MAX of systemd). Names are printable ASCII without colons.
	MaxName = 255
)

const (
	maxDatagram  = 4096             // longer notifications are refused
	maxRights    = 253              // SCM_MAX_FD, include/net/scm.h: descriptors in one message
	fdsPerPacket = 200              // descriptors per packet when they are handed back
	maxPacket    = 64 << 10         // 200 names with their separators and room to spare
	maxLinks     = 16               // daemons attached at the same time: an old one, its successor, people's mistakes
	ioTimeout    = 20 * time.Second // for a live keeper to take a message and to reach a barrier
)
