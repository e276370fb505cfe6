import { readFileSync } from 'node:fs'
import type { MachineSignal } from '@roost/core'

/** tini does not pass these on, and the kernel keeps them from a first process that does not handle them. */
const NOT_PASSED_ON: ReadonlySet<MachineSignal> = new Set<MachineSignal>([
  'SIGILL',
  'SIGTRAP',
  'SIGABRT',
  'SIGFPE',
  'SIGSEGV',
])

/**
 * Sends the program itself what its first process would swallow. `first` is that process, by its number on the host. False:
 * the first process is who must hear it.
 */
export function signalProgram(first: number, signal: MachineSignal): boolean {
  if (!NOT_PASSED_ON.has(signal)) return false
  try {
    // Oldest first; what it has adopted comes later.
    const children = readFileSync(`/proc/${first}/task/${first}/children`, 'utf8').trim()
    const program = Number(children.split(' ')[0])
    return program > 1 && process.kill(program, signal)
  } catch {
    // It has just ended, or is not that far.
    return false
  }
}
