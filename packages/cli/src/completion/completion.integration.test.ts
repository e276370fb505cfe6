import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { SCRIPTS, SHELLS, type Shell } from './scripts.ts'

/** The scripts in the shells that they are for, with the command line as it is. */
const folder = mkdtempSync(join(tmpdir(), 'roost-completion-'))
const main = join(import.meta.dirname, '../main.ts')
const env = {
  ...process.env,
  HOME: folder,
  PATH: `${folder}${delimiter}${process.env['PATH']}`,
  XDG_CONFIG_HOME: folder,
  ROOST_API_URL: '',
}

beforeAll(() => {
  const roost = join(folder, 'roost')
  writeFileSync(roost, `#!/bin/sh\nexec ${process.execPath} ${main} "$@"\n`)
  chmodSync(roost, 0o755)
  for (const shell of SHELLS) writeFileSync(join(folder, `roost.${shell}`), SCRIPTS[shell])
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const has = (shell: Shell) => spawnSync(shell, ['-c', 'exit 0']).status === 0
const said = (shell: Shell, ...args: string[]) =>
  execFileSync(shell, args, { env, encoding: 'utf8', timeout: 120_000 }).trim().split('\n')

describe('roost machine sto<TAB>', () => {
  test.skipIf(!has('bash'))('in bash', { timeout: 120_000 }, () => {
    const script = `. ${folder}/roost.bash; COMP_WORDS=(roost machine sto); COMP_CWORD=2; _roost
      printf '%s\\n' "\${COMPREPLY[@]}"; complete -p roost`
    expect(said('bash', '--norc', '-c', script)).toEqual([
      'stop',
      'complete -o default -F _roost roost',
    ])
  })

  // What zsh shows needs a terminal: here its own function for that only says what it was given.
  test.skipIf(!has('zsh'))('in zsh', { timeout: 120_000 }, () => {
    const script = `compdef() { print "compdef $*" }; _describe() { print -l "\${(@P)2}" }
      . ${folder}/roost.zsh; words=(roost machine sto); CURRENT=3; _roost`
    expect(said('zsh', '-f', '-c', script)).toEqual(['compdef _roost roost', 'stop:Stop machines'])
  })

  test.skipIf(!has('fish'))('in fish', { timeout: 120_000 }, () => {
    const script = `source ${folder}/roost.fish; complete -C 'roost machine sto'`
    expect(said('fish', '--no-config', '-c', script)).toEqual(['stop\tStop machines'])
  })
})
