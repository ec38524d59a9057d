package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/signature"
)

const signDescription = `Signs the artifact REF, or the newest one that is attached to the image REF, and stores the signature in its registry. Nodes whose configuration names the public key use it, see
keys in [trust]. Who signs vouches for it that the artifact shows what the image does: sign what you converted (pagein convert --sign-key does both), or compare it (pagein diff). Where others may
push, they may have attached a newer one: name yours by its digest, which convert prints.

FILE has a private key in PEM, ECDSA on P-256 or Ed25519: of "openssl genpkey -algorithm ed25519", or of "cosign generate-key-pair", whose password is taken from
` + passwordEnv + `. The signature is one that "cosign verify --key" accepts; pageind accepts those of "cosign sign --key", so keys elsewhere (KMS, PKCS #11) work too.`

// signCommand is "pagein sign".
func signCommand() *cli.Command {
	return &cli.Command{
		Name:        "sign",
		Usage:       "sign an artifact in a registry",
		ArgsUsage:   "REF",
		Description: signDescription,
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "key", Usage: "sign with the private key in `FILE`"},
			platformFlag(),
			&cli.BoolFlag{Name: "quiet", Usage: "print nothing but errors"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 || c.Path("key") == "" {
				return misuse(c, "want --key=FILE and REF; there are %d operands", c.NArg())
			}
			return look(c, func(l *looker) error { return sign(l, c.Args().First()) })
		},
	}
}

func sign(l *looker, name string) error {
	ref, err := l.parse(name)
	if err != nil {
		return err
	}
	key, err := readKey(l.c.Path("key"))
	if err != nil {
		return err
	}
	place, a, err := artifact.Find(l.c.Context, l.client, ref, l.platform)
	if err != nil {
		return err
	}
	do, err := signer(place, key)
	if err != nil {
		return err
	}
	if err := do(l.c.Context, a.Descriptor); err != nil || l.c.Bool("quiet") {
		return err
	}
	_, err = fmt.Fprintln(l.c.App.Writer, byDigest(ref, a))
	return err
}

// byDigest names an artifact that was found by a reference.
func byDigest(ref oci.Ref, a *artifact.Artifact) oci.Ref {
	return oci.Ref{Kind: ref.Kind, Host: ref.Host, Repository: ref.Repository, Digest: a.Descriptor.Digest}
}

const verifyDescription = `Looks for the artifact REF, or the newest one that is attached to the image REF, that is signed with one of the keys, and prints its name by digest: what pageind would take with
the same keys. The exit status is 1 if there is none. To mount nothing but what is signed: pagein mount "$(pagein verify --key=FILE REF)" DIR`

// verifyCommand is "pagein verify".
func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:        "verify",
		Usage:       "find the artifact that is signed with a key",
		ArgsUsage:   "REF",
		Description: verifyDescription,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "key", Usage: "accept what is signed with the public key in `FILE`, which may have wildcards; may be repeated"},
			platformFlag(),
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 || len(c.StringSlice("key")) == 0 {
				return misuse(c, "want --key=FILE and REF; there are %d operands", c.NArg())
			}
			return look(c, func(l *looker) error { return verify(l, c.Args().First()) })
		},
	}
}

// verified is what verify --json answers.
type verified struct {
	Reference string `json:"reference"` // of the artifact, by digest
	Subject   string `json:"subject,omitempty"`
	Key       string `json:"key"` // the file with the key that it is signed with
}

func verify(l *looker, name string) error {
	ref, err := l.parse(name)
	if err != nil {
		return err
	}
	keys, err := signature.ReadPublicKeys(l.c.StringSlice("key"))
	if err != nil {
		return err
	}
	place, err := artifact.Open(l.client, ref)
	if err != nil {
		return err
	}
	if place.Repository == nil {
		return errors.New("signatures are kept in registries, not in directories")
	}
	v := verified{}
	a, err := place.Find(l.c.Context, ref, l.platform, signedBy(keys, &v.Key))
	if err != nil {
		return err
	}
	v.Reference = byDigest(ref, a).String()
	if a.Subject != nil {
		v.Subject = a.Subject.Digest.String()
	}
	if l.c.Bool("json") {
		return printJSON(l.c, v)
	}
	_, err = fmt.Fprintln(l.c.App.Writer, v.Reference)
	return err
}
