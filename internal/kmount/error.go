package kmount

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// Error is the kernel's refusal of one step of a mount. It unwraps to Errno.
type Error struct {
	Step  string     // what was asked of the kernel: "fsconfig create"
	Errno unix.Errno // why it refused
	Log   string     // its own words, if it had any
}

func (e *Error) Error() string {
	msg := e.Step + ": " + e.Errno.Error()
	if e.Log != "" {
		return msg + " (kernel: " + e.Log + ")"
	}
	return msg + " (dmesg may say more)"
}

func (e *Error) Unwrap() error { return e.Errno }

// UnsupportedError says that the running kernel lacks a feature. It unwraps to [errors.ErrUnsupported].
type UnsupportedError struct {
	Feature string // what is missing: "EROFS over fscache"
	Needs   string // what would have it: "Linux 6.12 with CONFIG_EROFS_FS_BACKED_BY_FILE"
	Reason  string // how that was found out
}

func (e *UnsupportedError) Error() string {
	return e.Feature + " is not available: " + e.Reason + "; it needs " + e.Needs
}

func (e *UnsupportedError) Unwrap() error { return errors.ErrUnsupported }

// failed turns the error of a system call on an fs context into an [*Error] with the messages that the kernel left there.
func failed(step string, err error, messages []string) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		errno = unix.EIO
	}
	return &Error{Step: step, Errno: errno, Log: strings.Join(messages, "; ")}
}
