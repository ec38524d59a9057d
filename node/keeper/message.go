package keeper

import (
	"errors"
	"fmt"
	"strings"
)

// verb is what a notification asks for.
type verb int

const (
	verbNone    verb = iota // nothing that concerns a keeper: READY=1, STATUS=…
	verbStore               // FDSTORE=1: hold the descriptor
	verbRemove              // FDSTOREREMOVE=1: let the named one go
	verbBarrier             // BARRIER=1: close the descriptor once everything before it has been done
	verbAttach              // PAGEIN_ATTACH=1: the descriptor is a lifeline; hand back what is held
)

// message is one notification.
type message struct {
	verb verb
	name string // of verbStore and verbRemove; valid
}

// parseMessage reads the assignments of a notification, one per line; unknown ones are ignored, as sd_notify(3) wants it.
func parseMessage(data []byte) (message, error) {
	if len(data) > maxDatagram {
		return message{}, fmt.Errorf("message of %d bytes, more than %d", len(data), maxDatagram)
	}
	var m message
	named := false
	for line := range strings.SplitSeq(string(data), "\n") {
		v := verbNone
		switch key, value, _ := strings.Cut(line, "="); {
		case key == "FDNAME":
			m.name, named = value, true
		case value != "1":
		case key == "FDSTORE":
			v = verbStore
		case key == "FDSTOREREMOVE":
			v = verbRemove
		case key == "BARRIER":
			v = verbBarrier
		case key == "PAGEIN_ATTACH":
			v = verbAttach
		}
		if v == verbNone {
			continue
		}
		if m.verb != verbNone && m.verb != v {
			return message{}, errors.New("message asks for two things at once")
		}
		m.verb = v
	}
	switch m.verb {
	case verbStore, verbRemove:
		if !named {
			return message{}, errors.New("message has no FDNAME")
		}
		return m, checkName(m.name)
	default:
		m.name = ""
		return m, nil
	}
}

// checkName accepts what systemd accepts as a name (fdname_is_valid), but for the empty one.
func checkName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("descriptor name %.40q has %d bytes, not 1 to %d", name, len(name), MaxName)
	}
	for _, c := range []byte(name) {
		if c < ' ' || c > '~' || c == ':' {
			return fmt.Errorf("descriptor name %q has a character other than printable ASCII without colons", name)
		}
	}
	return nil
}

func storeMessage(name string) []byte {
	return []byte("FDSTORE=1\nFDNAME=" + name + "\nFDPOLL=0")
}

func removeMessage(name string) []byte {
	return []byte("FDSTOREREMOVE=1\nFDNAME=" + name)
}

func barrierMessage() []byte { return []byte("BARRIER=1") }

func attachMessage() []byte { return []byte("PAGEIN_ATTACH=1") }

// packetMessage describes the descriptors that go with it.
func packetMessage(names []string) []byte {
	return fmt.Appendf(nil, "LISTEN_FDS=%d\nLISTEN_FDNAMES=%s", len(names), strings.Join(names, ":"))
}

// parsePacket returns the names of the n descriptors that came with a packet.
func parsePacket(data []byte, n int) ([]string, error) {
	var count int
	var list string
	if _, err := fmt.Sscanf(string(data), "LISTEN_FDS=%d\nLISTEN_FDNAMES=", &count); err != nil {
		return nil, fmt.Errorf("keeper sent %.60q: %w", data, err)
	}
	_, list, _ = strings.Cut(string(data), "\nLISTEN_FDNAMES=")
	if count != n {
		return nil, fmt.Errorf("keeper announced %d descriptors and sent %d", count, n)
	}
	if count == 0 {
		return nil, nil
	}
	names := strings.Split(list, ":")
	if len(names) != n {
		return nil, fmt.Errorf("keeper sent %d descriptors with %d names", n, len(names))
	}
	for _, name := range names {
		if err := checkName(name); err != nil {
			return nil, fmt.Errorf("keeper sent a bad name: %w", err)
		}
	}
	return names, nil
}
