package control

import (
	"errors"
	"fmt"
	"net/http"
)

// Class says what kind of failure an error is, for programs to branch on.
type Class string

// The classes, and what a client can do about them.
const (
	NotFound      Class = "not_found"      // no such image or mount
	AlreadyExists Class = "already_exists" // the target is a mount point already
	Invalid       Class = "invalid"        // the request makes no sense
	Unavailable   Class = "unavailable"    // what is needed is out of reach or not there: a registry, a transport
	Internal      Class = "internal"       // all else
)

// httpStatus is the response code for a class.
func (c Class) httpStatus() int {
	switch c {
	case NotFound:
		return http.StatusNotFound
	case AlreadyExists:
		return http.StatusConflict
	case Invalid:
		return http.StatusBadRequest
	case Unavailable:
		return http.StatusServiceUnavailable
	case Internal:
	}
	return http.StatusInternalServerError
}

// Error is an error with a class. It travels: what a [Service] returns, the [Client] gets, without the errors it wraps.
type Error struct {
	Class Class
	Err   error
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Errorf is [fmt.Errorf] with a class.
func Errorf(class Class, format string, args ...any) error {
	return &Error{Class: class, Err: fmt.Errorf(format, args...)}
}

// ClassOf returns the class of the outermost [*Error] in err's chain, Internal if there is none.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return Internal
}

// wireError is the body of every response that is no success.
type wireError struct {
	Class   Class  `json:"class"`
	Message string `json:"message"`
}
