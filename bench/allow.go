package main

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// allowName as argv[0] makes this program say ALLOW to all reads of one file.
	allowName = "pagein-bench-allow"
	// allowReady is what is appended to the file's name for a file that says that it is marked.
	allowReady = ".marked"
)

// allow is what there is to compare with: the least that a daemon can do. It runs until it is killed, and says with a file that it has begun.
func allow(path string) error {
	group, err := unix.FanotifyInit(unix.FAN_CLASS_PRE_CONTENT|unix.FAN_UNLIMITED_QUEUE|unix.FAN_CLOEXEC, unix.O_RDONLY|unix.O_LARGEFILE|unix.O_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make a fanotify group: %w", err)
	}
	if err := unix.FanotifyMark(group, unix.FAN_MARK_ADD, unix.FAN_PRE_ACCESS, unix.AT_FDCWD, path); err != nil {
		return fmt.Errorf("mark %s: %w", path, err)
	}
	if err := os.WriteFile(path+allowReady, nil, 0o600); err != nil {
		return err
	}
	failed := make(chan error)
	for range 2 {
		go func() { failed <- answerAll(group) }()
	}
	return <-failed
}

func answerAll(group int) error {
	// One event at a time: struct fanotify_event_metadata with a range record.
	buf := make([]byte, unsafe.Sizeof(unix.FanotifyEventMetadata{})+24)
	for {
		if _, err := unix.Read(group, buf); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		event := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&buf[0]))
		response := unix.FanotifyResponse{Fd: event.Fd, Response: unix.FAN_ALLOW}
		if _, err := unix.Write(group, unsafe.Slice((*byte)(unsafe.Pointer(&response)), unsafe.Sizeof(response))); err != nil {
			return fmt.Errorf("answer an event: %w", err)
		}
		unix.Close(int(event.Fd))
	}
}
