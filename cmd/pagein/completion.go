package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// Both scripts know the values of options that have few, and ask the program itself, with the library's hidden flag, for other words that may come next. It takes a
// lone "--" for the end of the options, so it gets a "-" then.
const bashCompletion = `# bash completion for pagein: eval "$(pagein completion bash)"
_pagein() {
	local cur words values
	cur="${COMP_WORDS[COMP_CWORD]}"
	words=("${COMP_WORDS[@]:0:COMP_CWORD}")
	case "${words[-1]}" in
		--level) values="fast default best" ;;
		--order) values="dir tar" ;;
		--log-level) values="debug info warn error" ;;
		--log-format) values="text json" ;;
	esac
	if [[ -n "$values" ]]; then
		COMPREPLY=($(compgen -W "$values" -- "$cur"))
		return
	fi
	[[ "$cur" == -- ]] && words+=("-") || { [[ "$cur" == -* ]] && words+=("$cur"); }
	COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o bashdefault -o default -F _pagein pagein
`

const zshCompletion = `#compdef pagein
# zsh completion for pagein: source <(pagein completion zsh)
_pagein() {
	local -a asked candidates
	case "${words[CURRENT-1]}" in
		--level) compadd fast default best; return ;;
		--order) compadd dir tar; return ;;
		--log-level) compadd debug info warn error; return ;;
		--log-format) compadd text json; return ;;
	esac
	asked=("${(@)words[1,CURRENT-1]}")
	[[ "${words[CURRENT]}" == -- ]] && asked+=("-") || { [[ "${words[CURRENT]}" == -* ]] && asked+=("${words[CURRENT]}"); }
	candidates=("${(@f)$(_CLI_ZSH_AUTOCOMPLETE_HACK=1 "${asked[@]}" --generate-bash-completion 2>/dev/null)}")
	if [[ -n "${candidates[1]}" ]]; then
		_describe 'pagein' candidates
	else
		_files
	fi
}
compdef _pagein pagein
`

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a completion script for a shell",
		ArgsUsage: "bash|zsh|fish",
		BashComplete: func(c *cli.Context) {
			if c.NArg() == 0 {
				fmt.Fprint(c.App.Writer, "bash\nzsh\nfish\n")
			}
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misuse(c, "want bash, zsh or fish; got %q", c.Args().Slice())
			}
			var script string
			switch shell := c.Args().First(); shell {
			case "bash":
				script = bashCompletion
			case "zsh":
				script = zshCompletion
			case "fish":
				var err error
				if script, err = c.App.ToFishCompletion(); err != nil {
					return fmt.Errorf("write completion for fish: %w", err)
				}
			default:
				return misuse(c, "shell %q is none of bash, zsh, fish", shell)
			}
			_, err := fmt.Fprint(c.App.Writer, script)
			return err
		},
	}
}
