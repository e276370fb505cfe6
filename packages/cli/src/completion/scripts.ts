/**
 * What a shell reads: each script asks `roost completion answer -- WORDS` at every Tab, so that it never grows old. A line of
 * the answer is a word, a tab and what it is.
 */
export const SHELLS = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof SHELLS)[number]

export const SCRIPTS: Readonly<Record<Shell, string>> = {
  bash: `# bash completion of roost: source <(roost completion bash)
_roost() {
  local IFS=$'\\n' line
  COMPREPLY=()
  while IFS=$'\\t' read -r line _; do
    COMPREPLY+=("$line")
  done < <("\${COMP_WORDS[0]}" completion answer -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _roost roost
`,
  zsh: `#compdef roost
# zsh completion of roost: source <(roost completion zsh), after compinit
_roost() {
  local -a found
  local word about
  while IFS=$'\\t' read -r word about; do
    found+=("\${word//:/\\\\:}:\${about}")
  done < <("\${words[1]}" completion answer -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  if (( \${#found} )); then
    _describe 'roost' found
  else
    _files
  fi
}
if [ "\${funcstack[1]}" = _roost ]; then
  _roost
else
  compdef _roost roost
fi
`,
  fish: `# fish completion of roost: roost completion fish | source
function __roost_answer
  set -l words (commandline -opc) (commandline -ct)
  $words[1] completion answer -- $words[2..-1] 2>/dev/null
end
complete -c roost -f -a '(__roost_answer)'
complete -c roost -n 'test (count (__roost_answer)) -eq 0' -F
`,
}
