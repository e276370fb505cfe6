import { splitCommand } from '@roost/core'
import { usage } from '../failure/failure.ts'

/** Every machine has it, also one whose image has nothing else. */
export const BUSYBOX = '/.roost/busybox'

/** The image's own shell, and where it has none the one that every machine has. */
export const SHELL: readonly string[] = [
  BUSYBOX,
  'sh',
  '-c',
  `for shell in /bin/bash /bin/ash /bin/sh; do [ -x "$shell" ] && exec "$shell"; done; exec ${BUSYBOX} sh`,
]

/** Words of a command line. One that is given as a single word is split, as a shell would. */
export function wordsOf(command: readonly string[]): string[] {
  const words = command.length === 1 ? splitCommand(command[0] ?? '') : command
  if (words === null) throw usage(`a quote is not closed in: ${command.join(' ')}`)
  if (words.length === 0) throw usage('there is no command')
  return [...words]
}
