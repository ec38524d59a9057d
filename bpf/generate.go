package bpf

// The compiler is pinned: another version makes other bytes, and the objects are compared with what it makes of the source (generate_test.go).
// Both read registers, so there is one of each for an architecture.

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -no-global-types typed touch.bpf.c -- -O2 -Wall -Werror -DTYPED
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -no-global-types raw touch.bpf.c -- -O2 -Wall -Werror
