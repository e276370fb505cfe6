import type { HostId, MachineId, RegionCode } from '../id.ts'
import { UNCHECKED } from '../machine/checks-of.ts'
import type { MachineConfig } from '../machine/config.ts'
import { listensOnlyInside } from '../machine/listening.ts'
import {
  type Assignment,
  type CheckStatus,
  isReady,
  type MachineStatus,
} from '../machine/machine.ts'

/** What a release makes of one of its machines, and how it tells a person. */

/** What the server knows of one machine of the plan, old or new. Times are by the server's clock. */
export interface ReleaseMachine {
  readonly id: MachineId
  readonly region: RegionCode
  readonly host: HostId
  readonly hostName: string
  /** Since the agent of its host last spoke. */
  readonly hostSilentMs: number
  readonly assignment: Assignment
  readonly status: MachineStatus | null
  /** How long it has been ready, or started, without a break; null when it is not. */
  readonly readyMs: number | null
  readonly startedMs: number | null
  /** Every edge that lives has carried out the revision in which it became ready. */
  readonly carried: boolean
  /** Who holds a lease on it, as `describeLease` says it: nothing is done to it before that ends. */
  readonly lease?: string | null
}

/** A machine that was up for a shorter time has not shown that it stays up. */
export const READY_HOLD_MS = 1_000
/** A host that is silent for longer carries out nothing that could be waited for. */
export const HOST_SILENT_MS = 10_000
/** Ended this often, it will not come up by itself. */
const RESTARTS_MAX = 2
/** Time that a program has to listen, on top of the grace period of its checks. */
const CHECK_PATIENCE_MS = 60_000
/** Where something listens, but elsewhere: it may still be getting ready, but hardly for as long. */
const ELSEWHERE_PATIENCE_MS = 20_000
/** Nobody is told of a failing check before a program had the time to listen. */
const SETTLING_MS = 5_000
const HOST_PATIENCE_MS = 30_000

/** It has been ready long enough, and strangers can reach it, if it is there for them. */
export function isServing(machine: ReleaseMachine): boolean {
  const { readyMs, carried, assignment } = machine
  if (readyMs === null || readyMs < READY_HOLD_MS) return false
  return carried || assignment.config.services.length === 0
}

/** The status that is about what is wanted now: an older one says nothing of a new version. */
function statusOfVersion(machine: ReleaseMachine): MachineStatus | null {
  const { status, assignment } = machine
  return status !== null && status.configGeneration === assignment.configGeneration ? status : null
}

/** What will not mend itself, in words for a person; null while there is hope. */
export function troubleWith(machine: ReleaseMachine): string | null {
  const name = nameOf(machine)
  const { goal, config } = machine.assignment
  // A machine that is only prepared is started when its turn comes.
  if (goal !== 'started' && goal !== 'created')
    return `${name} was ${goal} by somebody while the release was starting it`
  if (isServing(machine)) return null
  if (machine.hostSilentMs > HOST_PATIENCE_MS)
    return `host ${machine.hostName} in ${machine.region} has not answered for ${seconds(machine.hostSilentMs)}`

  const status = statusOfVersion(machine)
  if (status === null) return null
  const { exit } = status
  if (exit !== null && !exit.requested) {
    const over = status.state === 'stopped' || status.state === 'failed'
    if (over || status.restartCount >= RESTARTS_MAX) return `${name} ${exitText(status, config)}`
  }
  // Its host has tried again where that could help.
  if (status.state === 'failed')
    return `${name} does not start: ${status.reason ?? 'its host gives no reason'}`
  if (machine.startedMs !== null && !isReady(status)) {
    const graceMs = config.services
      .flatMap((s) => s.checks)
      .reduce((most, check) => Math.max(most, check.grace_period_ms), 0)
    if (machine.startedMs >= patienceMs(status) + graceMs)
      return `${name} has run for ${seconds(machine.startedMs)}, but ${checkText(status)}`
  }
  return null
}

function exitText(status: MachineStatus, config: MachineConfig): string {
  const { exit } = status
  if (exit === null) return 'ended'
  const times = status.restartCount > 0 ? ` ${status.restartCount + 1} times` : ''
  if (exit.oomKilled) {
    const { memory_mb } = config.guest
    return `ran out of memory${times}: it has ${memory_mb} MB; give it more: memory = "${2 * memory_mb}mb" in [[vm]] of fly.toml, or roost deploy --vm-memory ${2 * memory_mb}`
  }
  return exit.signal > 0
    ? `was killed by signal ${exit.signal}${times}`
    : `exited${times} with code ${exit.code}`
}

function failingCheck(status: MachineStatus): CheckStatus | undefined {
  return status.checks.find((c) => c.name.startsWith('servicecheck-') && c.status !== 'passing')
}

function portOf(check: CheckStatus): number {
  return Number(check.name.split('-')[3])
}

/** How long a program that runs may take to listen, by what is known of what it listens on. */
function patienceMs(status: MachineStatus): number {
  const failing = failingCheck(status)
  if (failing?.listening === undefined || failing.listening.length === 0) return CHECK_PATIENCE_MS
  return listensOnlyInside(portOf(failing), failing.listening) ? SETTLING_MS : ELSEWHERE_PATIENCE_MS
}

function checkText(status: MachineStatus): string {
  const failing = failingCheck(status)
  if (failing === undefined) return 'its checks do not pass'
  const [, , type, port] = failing.name.split('-')
  // What failed in the grace period is not said.
  if (failing.output === UNCHECKED) return `its check on port ${port} is still waited for`
  if (failing.listening !== undefined) return failing.output
  const what =
    type === 'tcp' ? `nothing listens on port ${port}` : `the check on port ${port} (${type}) fails`
  const output = failing.output.trim()
  return `${what}${output === '' ? '' : `: ${output}`} (does the program listen on 0.0.0.0:${port}?)`
}

/** How far a new machine has come, in words that change only when it gets on. */
export function describeProgress(machine: ReleaseMachine): string {
  return isServing(machine) ? `${nameOf(machine)} is ready` : whyUnready(machine)
}

export function whyUnready(machine: ReleaseMachine): string {
  const status = statusOfVersion(machine)
  const name = nameOf(machine)
  if (machine.hostSilentMs > HOST_SILENT_MS)
    return `host ${machine.hostName} in ${machine.region} does not answer`
  if (status === null)
    return machine.status === null
      ? `${name} has not been heard of yet`
      : `${name} ends what it runs, to be replaced in place`
  if (status.state === 'created') return `${name} is prepared`
  if (status.state !== 'started')
    return `${name} is ${status.state}${status.reason === null ? '' : `: ${status.reason}`}`
  if (!isReady(status))
    return (machine.startedMs ?? 0) < SETTLING_MS
      ? `${name} is started, its checks are waited for`
      : `${name} is started, but ${checkText(status)}`
  return `${name} is up, edges are being told`
}

/** Its program ended by itself, since it last started or for good. */
export function hasEnded(machine: ReleaseMachine): boolean {
  const exit = statusOfVersion(machine)?.exit ?? null
  return exit !== null && !exit.requested
}

export function nameOf(machine: Pick<ReleaseMachine, 'id' | 'region'>): string {
  return `machine ${machine.id} in ${machine.region}`
}

export function seconds(ms: number): string {
  return Number.isFinite(ms) ? `${Math.round(ms / 1000)} s` : 'a long time'
}
