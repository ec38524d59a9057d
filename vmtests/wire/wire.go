// Package wire is what host and guest of a virtual machine say to each other: the host puts a [Spec] into the guest's initial file system, the guest
// answers with one JSON [Event] a line on a virtio port. It must stay free of dependencies, because the guest's init is built from it.
package wire

// SpecPath is where the guest finds its [Spec].
const SpecPath = "/pagein/spec.json"

// ModuleDir is where the guest finds its kernel modules.
const ModuleDir = "/pagein/modules"

// Port is the name of the virtio port that events are written to.
const Port = "pagein.events"

// Spec is what the guest has to do.
type Spec struct {
	Modules  []string  `json:"modules"` // files in [ModuleDir], in load order
	Commands []Command `json:"commands"`
	Orderly  bool      `json:"orderly"` // stop and unmount everything at the end
}

// Command is one program to run.
type Command struct {
	Args   []string `json:"args"`
	Env    []string `json:"env"`
	Dir    string   `json:"dir"`
	Millis int64    `json:"millis"` // limit, 0 for none
}

// Kinds of events.
const (
	KindStart  = "start"  // the machine is up, and the first command comes next
	KindOutput = "output" // Data is what command Command wrote
	KindExit   = "exit"   // command Command ended
	KindEnd    = "end"    // all commands have ended
	KindFail   = "fail"   // the guest cannot go on: Problem says why
)

// Event is one thing that happened in the guest.
type Event struct {
	Kind    string `json:"kind"`
	Command int    `json:"command"`
	Data    []byte `json:"data,omitempty"`
	Code    int    `json:"code,omitempty"`   // exit status, -1 if the command did not exit by itself
	Millis  int64  `json:"millis,omitempty"` // how long the command ran
	Problem string `json:"problem,omitempty"`
}
