import { PlatformError } from '@roost/base'
import type { MachineId } from '@roost/core'
import type { Deps } from '../deps.ts'
import { getMachine, hasVersion, type StoredMachine } from '../store/machines.ts'
import type { Reader } from '../store/store.ts'
import { lastEvent } from './events.ts'
import { isSettled, shownState } from './state.ts'

/** A change that was not heard of (by another server, later) is seen by then. */
const POLL_MS = 1_000

export interface MachineWait {
  readonly machine: MachineId
  /** Any of these; `settled` is any state that lasts. */
  readonly states: readonly string[]
  readonly timeoutMs: number
  /** Only this version counts. */
  readonly instanceId: string | null
  /** Only a state that came after this event counts: the number in its id. */
  readonly afterEvent: number | null
}

/** Returns when the machine is in one of the states. Throws `timeout`, `not_found`, or `invalid` when it can't get there any more. */
export async function waitForMachine(
  deps: Pick<Deps, 'store' | 'clock'>,
  wait: MachineWait,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock } = deps
  const deadline = clock.now() + wait.timeoutMs
  let changed = new AbortController()
  const key = `machine/${wait.machine}`
  const asked = `assignment/${wait.machine}`
  const end = store.onChange(({ keys }) => {
    if (keys.has(key) || keys.has(asked)) changed.abort()
  })
  try {
    for (;;) {
      changed = new AbortController()
      const verdict = await store.read((reader) => look(reader, wait))
      if (verdict === 'reached') return
      signal.throwIfAborted()
      const leftMs = deadline - clock.now()
      if (leftMs <= 0)
        throw new PlatformError(
          'timeout',
          `deadline exceeded: machine ${wait.machine} is ${verdict.state}, not ${wait.states.join(' or ')}, after ${wait.timeoutMs / 1000}s`,
        )
      await clock.sleep(Math.min(POLL_MS, leftMs), AbortSignal.any([signal, changed.signal]))
    }
  } finally {
    end()
  }
}

async function look(
  reader: Reader,
  wait: MachineWait,
): Promise<'reached' | { readonly state: string }> {
  const machine = await getMachine(reader, wait.machine)
  if (machine === null) throw new PlatformError('not_found', 'machine not found')
  const state = await stateOf(reader, machine, wait.instanceId)
  if (wait.afterEvent !== null && (await lastEvent(reader, wait.machine)) <= wait.afterEvent)
    return { state: `${state} since before event ${wait.machine}-${wait.afterEvent}` }
  if (wait.states.includes(state)) return 'reached'
  if (wait.states.includes('settled') && (state === 'replaced' || isSettled(state as 'created')))
    return 'reached'
  if (state === 'destroyed') throw new PlatformError('not_found', 'machine not found')
  if (state === 'replaced') {
    // Of an older version nothing runs any more.
    if (wait.states.includes('stopped') || wait.states.includes('destroyed')) return 'reached'
    throw new PlatformError(
      'invalid',
      `machine failed to reach desired state: version ${wait.instanceId} was replaced`,
    )
  }
  if (state === 'stopped' && !canSuspend(machine))
    throw new PlatformError(
      'invalid',
      `machine failed to reach desired state: ${machine.status?.reason ?? 'it was stopped'}`,
    )
  const why = endedByItself(machine)
  if (why !== null && state === 'stopped')
    throw new PlatformError('invalid', `machine failed to reach desired state: ${why}`)
  return { state }
}

async function stateOf(
  reader: Reader,
  machine: StoredMachine,
  instanceId: string | null,
): Promise<string> {
  const state = shownState(machine)
  const { assignment, status } = machine
  if (instanceId === null || instanceId === assignment.instanceId) return state
  if (!(await hasVersion(reader, assignment.id, instanceId)))
    throw new PlatformError('not_found', `machine not found: it has no version ${instanceId}`)
  const stillThere = status?.instanceId === instanceId && state !== 'destroyed'
  return stillThere && state !== 'created' ? 'replacing' : 'replaced'
}

/** False: it was to be suspended, and nothing of it runs that could be. */
function canSuspend({ assignment, status }: StoredMachine): boolean {
  if (assignment.goal !== 'suspended' || status === null) return true
  return status.generation < assignment.generation
}

/** It was to be started, ended, and its restart policy leaves it so: waiting longer is no use. */
function endedByItself({ assignment, status }: StoredMachine): string | null {
  if (assignment.goal !== 'started' || status === null || status.exit === null) return null
  if (status.exit.requested || status.state !== 'stopped') return null
  if (status.generation < assignment.generation) return null
  const { code, signal } = status.exit
  return signal > 0 ? `it was killed by signal ${signal}` : `it exited with code ${code}`
}
