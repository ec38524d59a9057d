// Package depcheck holds the test that asserts the import graph of the house: knowledge points downwards only. Formats know no network and
// no OCI, transports know no backends, the daemon never carries the converter. It has no code of its own to import.
package depcheck
