import { PlatformError } from '@roost/base'
import { type Host, MACHINE_SIGNALS, type MachineId, machineSignal } from '@roost/core'
import type { Deps } from '../deps.ts'
import type { StoredMachine } from '../store/machines.ts'
import { shownState } from './state.ts'

const TIMEOUT_MS = 10_000

/**
 * Sends a signal to a machine's program, by its host. Asked once: who hears nothing does not know whether it arrived, and only
 * the caller can tell whether twice is harmless. Throws `precondition_failed` where it does not run.
 */
export async function signalMachine(
  deps: Pick<Deps, 'agent'>,
  at: { readonly machine: StoredMachine; readonly host: Host },
  said: string | number,
  signal: AbortSignal,
): Promise<void> {
  const { machine, host } = at
  const name = machineSignal(said)
  if (name === null)
    throw new PlatformError(
      'invalid',
      `signal: ${said} is not one of ${Object.keys(MACHINE_SIGNALS).join(', ')}`,
    )
  const { id } = machine.assignment
  const state = shownState(machine)
  if (!RUNS.has(state))
    throw new PlatformError(
      'precondition_failed',
      `unable to signal machine from current state: '${state}'`,
    )
  await deps
    .agent(host)
    .json('POST', signalPath(id), { signal: name }, { signal, timeoutMs: TIMEOUT_MS })
    .catch((error: unknown) => {
      if (!(error instanceof PlatformError) || error.code !== 'unavailable') throw error
      throw new PlatformError('host_unreachable', `host ${host.name} does not answer`, {
        cause: error,
        retry: 'later',
      })
    })
}

/** Its program may run: who asks while one is stopped, or before its start was heard of, may be right. */
const RUNS: ReadonlySet<string> = new Set([
  'starting',
  'started',
  'stopping',
  'restarting',
  'updating',
  'destroying',
])

function signalPath(id: MachineId): string {
  return `/agent/v1/machines/${id}/signal`
}
