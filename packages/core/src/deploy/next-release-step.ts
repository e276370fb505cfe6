import type { HostId, Instant, MachineId, RegionCode } from '../id.ts'
import { assertNever } from '../id.ts'
import { UNCHECKED } from '../machine/checks-of.ts'
import { listensOnlyInside } from '../machine/listening.ts'
import {
  type Assignment,
  type CheckStatus,
  isReady,
  type MachineStatus,
} from '../machine/machine.ts'
import { isFinal, type Release, type Replacement } from './release.ts'

/**
 * A release is driven by asking again and again what to do next, from what is there: a server that was killed anywhere
 * goes on with the same question.
 *
 *   pending ──begin──▶ starting ──commit──▶ draining ──complete──▶ complete
 *      │                  │ revert
 *      └──fail──▶ failed ◀┴─▶ reverting ──fail──▶ failed
 *
 * Until `commit` the old machines serve on and everything can be undone; after it nothing can fail any more. Old
 * machines are told to go only while every machine that takes their place is ready and carried by the edges.
 */
export type ReleaseStep =
  /** Make the plan and start. */
  | { readonly kind: 'begin' }
  | { readonly kind: 'create'; readonly replacements: readonly Replacement[] }
  /** Machines of an earlier release, or of this one when it is undone: they leave rotation, drain and are destroyed. */
  | { readonly kind: 'retire'; readonly machines: readonly MachineId[] }
  /** In one transaction: this release serves, and the last old machines go. */
  | { readonly kind: 'commit'; readonly machines: readonly MachineId[] }
  | { readonly kind: 'revert'; readonly reason: string; readonly machine: MachineId | null }
  | { readonly kind: 'wait'; readonly until: Instant; readonly why: string }
  | { readonly kind: 'complete' }
  | { readonly kind: 'fail'; readonly reason: string }
  | { readonly kind: 'settled' }

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
}

export interface ReleaseView {
  /** Those of the plan that exist or have existed, by id. */
  readonly machines: ReadonlyMap<MachineId, ReleaseMachine>
  /** Version of an older release of this app that has not ended. */
  readonly earlier: number | null
}

/** A machine that was up for a shorter time has not shown that it stays up. */
export const READY_HOLD_MS = 1_000
/** Ended this often, it will not come up by itself. */
const RESTARTS_MAX = 2
/** Time that a program has to listen, on top of the grace period of its checks. */
const CHECK_PATIENCE_MS = 60_000
/** Where something listens, but elsewhere: it may still be getting ready, but hardly for as long. */
const ELSEWHERE_PATIENCE_MS = 20_000
/** Nobody is told of a failing check before a program had the time to listen. */
const SETTLING_MS = 5_000
const HOST_PATIENCE_MS = 30_000
/** A host that is silent for longer carries out nothing that could be waited for. */
const HOST_SILENT_MS = 10_000
const LOOK_AGAIN_MS = 1_000

export function nextReleaseStep(release: Release, view: ReleaseView, now: Instant): ReleaseStep {
  switch (release.status) {
    case 'pending':
      if (view.earlier === null) return { kind: 'begin' }
      return wait(now, null, `release ${view.earlier} of this app is still being rolled out`)
    case 'starting':
      return nextStart(release, view, now)
    case 'draining':
      return nextDrain(release, view, now)
    case 'reverting':
      return nextRevert(release, view, now)
    case 'complete':
    case 'failed':
      return { kind: 'settled' }
    default:
      return assertNever(release.status)
  }
}

function nextStart(release: Release, view: ReleaseView, now: Instant): ReleaseStep {
  const last = release.plan.reduce((most, r) => Math.max(most, r.wave), 0)
  for (let wave = 0; wave < last; wave++) {
    const step = bringUp(release, wave, view, now) ?? makeRoom(release, wave, view, now)
    if (step !== null) return step
  }
  return (
    bringUp(release, last, view, now) ?? {
      kind: 'commit',
      machines: sourcesOf(release, last, view)
        .filter(isWanted)
        .map((m) => m.id),
    }
  )
}

/** null when every new machine of the wave serves. */
function bringUp(
  release: Release,
  wave: number,
  view: ReleaseView,
  now: Instant,
): ReleaseStep | null {
  const wanted = release.plan.filter((r) => r.wave === wave && r.target !== null)
  const existing = wanted.flatMap((r) => machineOf(view, r.target) ?? [])
  for (const machine of existing) {
    const trouble = troubleWith(machine, release)
    if (trouble !== null) return { kind: 'revert', reason: trouble, machine: machine.id }
  }
  const missing = wanted.filter((r) => machineOf(view, r.target) === null)
  const unready = existing.filter((m) => !isServing(m))
  if (missing.length === 0 && unready.length === 0) return null
  if (now >= release.deadline) return outOfTime(release, unready)
  if (missing.length > 0) return { kind: 'create', replacements: missing }
  const holdMs = unready.map((m) =>
    m.carried && m.readyMs !== null ? READY_HOLD_MS - m.readyMs : LOOK_AGAIN_MS,
  )
  const until = now + Math.max(1, ...holdMs)
  return { kind: 'wait', until: Math.min(until, release.deadline), why: whyWaitingFor(unready) }
}

/** null when the machines that the wave replaces are gone. */
function makeRoom(
  release: Release,
  wave: number,
  view: ReleaseView,
  now: Instant,
): ReleaseStep | null {
  const sources = sourcesOf(release, wave, view)
  const toRetire = sources.filter(isWanted)
  if (toRetire.length > 0) return { kind: 'retire', machines: toRetire.map((m) => m.id) }
  const leaving = sources.filter((m) => !isGone(m))
  if (leaving.length === 0) return null
  if (now >= release.deadline) return outOfTime(release, [])
  return wait(now, release.deadline, leavingText('old machine', leaving))
}

function outOfTime(release: Release, unready: readonly ReleaseMachine[]): ReleaseStep {
  const [first] = unready
  return {
    kind: 'revert',
    reason: `not done in the time that was given (${seconds(release.waitTimeoutMs)})${first === undefined ? '' : `: ${whyUnready(first)}`}`,
    machine: first?.id ?? null,
  }
}

function nextDrain(release: Release, view: ReleaseView, now: Instant): ReleaseStep {
  const sources = sourcesOf(release, null, view)
  const toRetire = sources.filter(isWanted)
  if (toRetire.length > 0) return { kind: 'retire', machines: toRetire.map((m) => m.id) }
  const leaving = sources.filter((m) => !isGone(m))
  if (leaving.length === 0 || now >= release.deadline) return { kind: 'complete' }
  return wait(now, release.deadline, leavingText('old machine', leaving))
}

/** A machine whose predecessor has gone already is all that is left there: it stays, though the release failed. */
function nextRevert(release: Release, view: ReleaseView, now: Instant): ReleaseStep {
  const reason = release.reason ?? 'it was given up'
  const undone = release.plan.filter((r) => !isHandedOver(r, view))
  const targets = undone.flatMap((r) => machineOf(view, r.target) ?? [])
  const toRetire = targets.filter(isWanted)
  if (toRetire.length > 0) return { kind: 'retire', machines: toRetire.map((m) => m.id) }
  const leaving = targets.filter((m) => !isGone(m))
  if (leaving.length > 0 && now < release.deadline)
    return wait(now, release.deadline, leavingText('new machine', leaving))
  const kept = release.plan.filter((r) => r.target !== null && isHandedOver(r, view)).length
  return {
    kind: 'fail',
    reason:
      kept === 0
        ? reason
        : `${reason}; ${count(kept, 'machine')} had been replaced by then and ${kept === 1 ? 'runs' : 'run'} this release: deploy again to bring all to one`,
  }
}

function isHandedOver(replacement: Replacement, view: ReleaseView): boolean {
  if (replacement.source === null || replacement.target === null) return false
  const source = machineOf(view, replacement.source)
  return source === null || !isWanted(source)
}

/** It has been ready long enough, and strangers can reach it. */
export function isServing(machine: ReleaseMachine): boolean {
  return machine.readyMs !== null && machine.readyMs >= READY_HOLD_MS && machine.carried
}

/** The status that is about what is wanted now: an older one says nothing of a new version. */
function statusOf(machine: ReleaseMachine): MachineStatus | null {
  const { status, assignment } = machine
  return status !== null && status.configGeneration === assignment.configGeneration ? status : null
}

/** What will not mend itself, in words for a person; null while there is hope. */
function troubleWith(machine: ReleaseMachine, release: Release): string | null {
  const name = nameOf(machine)
  if (machine.assignment.goal !== 'started')
    return `${name} was ${machine.assignment.goal === 'destroyed' ? 'destroyed' : 'stopped'} by somebody while the release was starting it`
  if (isServing(machine)) return null
  if (machine.hostSilentMs > HOST_PATIENCE_MS)
    return `host ${machine.hostName} in ${machine.region} has not answered for ${seconds(machine.hostSilentMs)}`

  const status = statusOf(machine)
  if (status === null) return null
  const { exit } = status
  if (exit !== null && !exit.requested) {
    const over = status.state === 'stopped' || status.state === 'failed'
    if (over || status.restartCount >= RESTARTS_MAX) return `${name} ${exitText(status, release)}`
  }
  // Its host has tried again where that could help.
  if (status.state === 'failed')
    return `${name} does not start: ${status.reason ?? 'its host gives no reason'}`
  if (machine.startedMs !== null && !isReady(status)) {
    const graceMs = release.config.services
      .flatMap((s) => s.checks)
      .reduce((most, check) => Math.max(most, check.grace_period_ms), 0)
    if (machine.startedMs >= patienceMs(status) + graceMs)
      return `${name} has run for ${seconds(machine.startedMs)}, but ${checkText(status)}`
  }
  return null
}

function exitText(status: MachineStatus, release: Release): string {
  const { exit } = status
  if (exit === null) return 'ended'
  const times = status.restartCount > 0 ? ` ${status.restartCount + 1} times` : ''
  if (exit.oomKilled) {
    const { memory_mb } = release.config.guest
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

function whyUnready(machine: ReleaseMachine): string {
  const status = statusOf(machine)
  const name = nameOf(machine)
  if (machine.hostSilentMs > HOST_SILENT_MS)
    return `host ${machine.hostName} in ${machine.region} does not answer`
  if (status === null) return `${name} has not been heard of yet`
  if (status.state !== 'started')
    return `${name} is ${status.state}${status.reason === null ? '' : `: ${status.reason}`}`
  if (!isReady(status))
    return (machine.startedMs ?? 0) < SETTLING_MS
      ? `${name} is started, its checks are waited for`
      : `${name} is started, but ${checkText(status)}`
  return `${name} is up, edges are being told`
}

function whyWaitingFor(unready: readonly ReleaseMachine[]): string {
  const [first] = unready
  if (first === undefined) return 'machines to be created'
  return `${whyUnready(first)}${unready.length > 1 ? ` (and ${unready.length - 1} more)` : ''}`
}

function leavingText(what: string, machines: readonly ReleaseMachine[]): string {
  return `${count(machines.length, what)} to ${machines.some(isDraining) ? 'drain' : 'go'}`
}

function isDraining({ assignment }: ReleaseMachine): boolean {
  return assignment.drain !== null && !assignment.drain.done
}

function isGone(machine: ReleaseMachine): boolean {
  if (machine.assignment.goal !== 'destroyed') return false
  return machine.status?.state === 'destroyed' || machine.hostSilentMs > HOST_SILENT_MS
}

function isWanted(machine: ReleaseMachine): boolean {
  return machine.assignment.goal !== 'destroyed'
}

/** Of one wave, or of all. */
function sourcesOf(release: Release, wave: number | null, view: ReleaseView): ReleaseMachine[] {
  return release.plan
    .filter((r) => wave === null || r.wave === wave)
    .flatMap((r) => machineOf(view, r.source) ?? [])
}

function machineOf(view: ReleaseView, id: MachineId | null): ReleaseMachine | null {
  return id === null ? null : (view.machines.get(id) ?? null)
}

function nameOf(machine: ReleaseMachine): string {
  return `machine ${machine.id} in ${machine.region}`
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`
}

function seconds(ms: number): string {
  return Number.isFinite(ms) ? `${Math.round(ms / 1000)} s` : 'a long time'
}

function wait(now: Instant, deadline: Instant | null, why: string): ReleaseStep {
  const until = now + LOOK_AGAIN_MS
  return { kind: 'wait', until: deadline === null ? until : Math.min(until, deadline), why }
}

/** How long a wait for machines to go may last after they were told: their drain, their stop, and a moment. */
export function retireTimeMs(timeoutsMs: readonly number[]): number {
  const longest = timeoutsMs.reduce((most, ms) => Math.max(most, ms), 0)
  return Math.max(5_000, longest) + longest + 15_000
}

/** The oldest release of each app that has not ended: the only one that may be at work. */
export function releasesAtWork(releases: readonly Release[]): Release[] {
  const oldest = new Map<string, Release>()
  for (const release of releases) {
    if (isFinal(release.status)) continue
    const other = oldest.get(release.app)
    if (other === undefined || release.version < other.version) oldest.set(release.app, release)
  }
  return [...oldest.values()]
}
