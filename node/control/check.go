package control

// CheckRequest asks for a verification of all that is in the store.
type CheckRequest struct {
	Repair bool `json:"repair,omitempty"` // remove what is bad, and fetch it again where it is in use
}

// CheckResponse says what was looked at and what is wrong.
type CheckResponse struct {
	Root         string         `json:"root"`
	OK           bool           `json:"ok"` // nothing is wrong, or all that was is repaired
	Metas        int            `json:"metas"`
	Maps         int            `json:"maps"`
	Blobs        int            `json:"blobs"`
	Frames       int            `json:"frames"`        // that are present
	FrameBytes   int64          `json:"frame_bytes"`   // of those
	UnknownBlobs int            `json:"unknown_blobs"` // without a map, which is fetched when they are used again
	Problems     int64          `json:"problems"`
	ProblemList  []CheckProblem `json:"problem_list,omitempty"` // the first thousand
}

// CheckProblem is one thing that is wrong.
type CheckProblem struct {
	Part     string `json:"part"`  // state, meta, map, record (of what is in a blob file) or frame
	Where    string `json:"where"` // which of them
	What     string `json:"what"`
	Repaired bool   `json:"repaired"`
	Note     string `json:"note,omitempty"` // what else is to be said or done about it

	Images []string `json:"images,omitempty"` // references of those that are mounted, or should be, and use it
}
