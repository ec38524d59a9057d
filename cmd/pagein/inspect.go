package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/view"
)

const inspectDescription = `Shows what REF is made of: the artifact, its metadata image, its blobs and their frames, with sizes and ratios. Only metadata is fetched.

` + lookRefs

func inspectCommand() *cli.Command {
	return &cli.Command{
		Name:        "inspect",
		Usage:       "show what an artifact is made of",
		ArgsUsage:   "REF",
		Description: inspectDescription,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "frames", Usage: "show each frame"},
			platformFlag(),
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misuse(c, "want REF; got %q", c.Args().Slice())
			}
			return look(c, func(l *looker) error {
				p, err := l.open(c.Context, c.Args().First())
				if err != nil {
					return err
				}
				report, err := newInspection(p, c.Bool("frames"))
				if err != nil {
					return err
				}
				if err := report.addSignatures(c.Context, l, p); err != nil {
					return err
				}
				if c.Bool("json") {
					return printJSON(c, report)
				}
				return report.print(c.App.Writer)
			})
		},
	}
}

// inspection is what inspect answers. Sizes are in bytes.
type inspection struct {
	Reference string           `json:"reference"`
	Artifact  *inspectArtifact `json:"artifact,omitempty"`
	Image     inspectImage     `json:"image"`
	Blobs     []inspectBlob    `json:"blobs"`
}

type inspectArtifact struct {
	Digest  string `json:"digest"`
	Size    int64  `json:"size"`   // of the manifest
	Stored  int64  `json:"stored"` // of manifest, metadata, maps and source objects
	Plain   int64  `json:"plain"`  // of metadata image and blobs
	Subject string `json:"subject,omitempty"`

	Generation int      `json:"generation,omitempty"` // how many artifacts of the image it came after
	Signatures []string `json:"signatures,omitempty"` // manifests with its signatures, by digest; none is verified
}

type inspectImage struct {
	Digest     string   `json:"digest,omitempty"` // of the plain bytes
	Layer      string   `json:"layer,omitempty"`  // digest of the compressed ones
	Size       int64    `json:"size"`
	Stored     int64    `json:"stored,omitempty"`
	UUID       string   `json:"uuid"`
	Label      string   `json:"label,omitempty"`
	Inodes     uint64   `json:"inodes"`
	BlockSize  int      `json:"blockSize"`
	Compatible []string `json:"compatible"`   // features that a reader may ignore
	Required   []string `json:"incompatible"` // features that a reader must know
}

type inspectBlob struct {
	Device  int             `json:"device"` // number in the image's device table
	ID      string          `json:"id,omitempty"`
	Size    int64           `json:"size"`
	Stored  int64           `json:"stored,omitempty"` // of the frames as they are stored
	Map     string          `json:"map,omitempty"`
	MapSize int64           `json:"mapSize,omitempty"`      // plain
	Index   string          `json:"index,omitempty"`        // digest of the layer
	Ago     int             `json:"artifactsAgo,omitempty"` // how many artifacts ago the blob was made
	Frames  int             `json:"frameCount,omitempty"`
	Codecs  map[string]int  `json:"codecs,omitempty"` // frames by codec
	Sources []inspectObject `json:"sources,omitempty"`
	List    []inspectFrame  `json:"frames,omitempty"`

	indexStored int64
}

type inspectObject struct {
	Digest string   `json:"digest"`
	Size   int64    `json:"size"`
	URLs   []string `json:"urls,omitempty"` // other places that have it
	Away   bool     `json:"away,omitempty"` // only those places have it
}

type inspectFrame struct {
	Offset       int64  `json:"offset"` // in the blob
	Size         int    `json:"size"`
	Source       int    `json:"source"` // index in sources
	SourceOffset int64  `json:"sourceOffset"`
	Stored       int    `json:"stored"`
	Codec        string `json:"codec"`
	SHA256       string `json:"sha256"`
}

// newInspection gathers the answer.
func newInspection(p *peek, frames bool) (*inspection, error) {
	super := p.tree.Super()
	compat, incompat := super.Features()
	r := &inspection{Reference: p.ref.String(), Blobs: []inspectBlob{}}
	r.Image = inspectImage{
		Size: int64(super.Blocks) * int64(super.BlockSize), UUID: formatUUID(super.UUID), Label: super.VolumeName, Inodes: super.Inodes, BlockSize: super.BlockSize,
		Compatible: compat, Required: incompat,
	}
	if p.view == nil {
		for i, d := range super.Devices {
			r.Blobs = append(r.Blobs, inspectBlob{Device: i + 1, ID: d.Tag, Size: int64(d.Blocks) * int64(super.BlockSize)})
		}
		return r, nil
	}
	a := p.view.Artifact
	r.Image.Digest, r.Image.Layer, r.Image.Size, r.Image.Stored = a.MetaDigest.String(), a.Meta.Digest.String(), a.MetaSize, a.Meta.Size
	if err := loadMaps(p.view); err != nil {
		return nil, err
	}
	r.Artifact = &inspectArtifact{Digest: a.Descriptor.Digest.String(), Size: a.Descriptor.Size, Stored: a.Descriptor.Size + a.Meta.Size, Plain: a.MetaSize}
	r.Artifact.Generation = a.Generation
	if a.Subject != nil {
		r.Artifact.Subject = a.Subject.Digest.String()
	}
	seen := map[string]bool{}
	for i := range a.Blobs {
		m, err := p.view.Map(i)
		if err != nil {
			return nil, err
		}
		b := newInspectBlob(i, a.Blobs[i], m, frames)
		r.Blobs = append(r.Blobs, b)
		r.Artifact.Stored += a.Blobs[i].Map.Size + b.indexStored
		r.Artifact.Plain += b.Size
		for _, s := range b.Sources {
			if !seen[s.Digest] {
				seen[s.Digest] = true
				r.Artifact.Stored += s.Size
			}
		}
	}
	return r, nil
}

// mapLoads is how many maps are fetched at the same time: each costs a round trip.
const mapLoads = 16

func loadMaps(v *view.View) error {
	var g errgroup.Group
	g.SetLimit(mapLoads)
	for i := range v.Artifact.Blobs {
		g.Go(func() error {
			_, err := v.Map(i)
			return err
		})
	}
	return g.Wait()
}

func newInspectBlob(i int, b artifact.Blob, m *blob.Map, frames bool) inspectBlob {
	r := inspectBlob{
		Device: i + 1, ID: b.ID, Size: b.Size, Map: b.Map.Digest.String(), MapSize: b.MapSize, Frames: m.Frames(), Codecs: map[string]int{},
	}
	r.Ago = b.Depth
	if b.Index != nil {
		r.Index = b.Index.Digest.String()
		r.indexStored = b.Index.Size
	}
	for j, s := range b.Sources {
		r.Sources = append(r.Sources, inspectObject{Digest: s.Digest.String(), Size: s.Size, URLs: s.URLs, Away: b.Away(j)})
	}
	for k := range m.Frames() {
		f := m.Frame(k)
		r.Stored += int64(f.SrcLen)
		r.Codecs[f.Codec.String()]++
		if frames {
			r.List = append(r.List, inspectFrame{
				Offset: f.Off, Size: f.Len, Source: f.Source, SourceOffset: f.SrcOff, Stored: f.SrcLen, Codec: f.Codec.String(), SHA256: fmt.Sprintf("%x", f.Digest),
			})
		}
	}
	return r
}
