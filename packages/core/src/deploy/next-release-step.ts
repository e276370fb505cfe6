import type { Instant, MachineId } from '../id.ts'
import { assertNever } from '../id.ts'
import {
  isFinal,
  isInPlace,
  type Release,
  type ReleaseStatus,
  type Replacement,
  releaseOf,
} from './release.ts'
import {
  HOST_SILENT_MS,
  hasEnded,
  isServing,
  nameOf,
  READY_HOLD_MS,
  type ReleaseMachine,
  seconds,
  troubleWith,
  whyUnready,
} from './release-machine.ts'

/**
 * A release is driven by asking again and again what to do next, from what is there: a server that was killed anywhere
 * goes on with the same question.
 *
 *   pending ──begin──▶ starting ──commit──▶ draining ──complete──▶ complete
 *      │                  │ revert            │ revert
 *      └──fail──▶ failed ◀┴─▶ reverting ◀─────┘
 *                    ▲──fail───┘
 *
 * Old machines are told to go only while every machine that takes their place is ready and carried by the edges. Whatever goes
 * wrong before it is complete, everything returns to the release that served before: machines that still serve are kept,
 * those that have been replaced come again.
 */
export type ReleaseStep =
  /** Make the plan and start. */
  | { readonly kind: 'begin' }
  /** Those of `wave` start at once, the others are made ready to start. */
  | {
      readonly kind: 'create'
      readonly replacements: readonly Replacement[]
      readonly wave: number
    }
  /** Machines that were only prepared. */
  | { readonly kind: 'start'; readonly machines: readonly MachineId[] }
  /** A new version in place: they leave rotation, drain, stop, and start anew. */
  | { readonly kind: 'update'; readonly machines: readonly MachineId[] }
  /** Machines that were kept out of rotation until all of them are ready. */
  | { readonly kind: 'admit'; readonly machines: readonly MachineId[] }
  /** Machines of an earlier release, or of this one when it is undone: they leave rotation, drain and are destroyed. */
  | { readonly kind: 'retire'; readonly machines: readonly MachineId[] }
  /** In one transaction: this release serves, and the last old machines go. */
  | { readonly kind: 'commit'; readonly machines: readonly MachineId[] }
  /** Make the plan of the way back. */
  | { readonly kind: 'revert'; readonly reason: string; readonly machine: MachineId | null }
  | { readonly kind: 'wait'; readonly until: Instant; readonly why: string }
  /** `leaving`: old machines that still finish what they do. */
  | { readonly kind: 'complete'; readonly leaving: number }
  | { readonly kind: 'fail'; readonly reason: string; readonly returned: boolean }
  | { readonly kind: 'settled' }

export type ReleaseDeed = Exclude<ReleaseStep['kind'], 'wait' | 'settled'>

/**
 * Every step that writes, in every state in which it can be taken: each is one transaction of the server, so that a death
 * falls before or after it and never in it. Tests that kill walk this list.
 */
export const RELEASE_STEPS = [
  { status: 'pending', step: 'begin' },
  { status: 'starting', step: 'create' },
  { status: 'starting', step: 'start' },
  { status: 'starting', step: 'update' },
  { status: 'starting', step: 'admit' },
  { status: 'starting', step: 'retire' },
  { status: 'starting', step: 'commit' },
  { status: 'starting', step: 'revert' },
  { status: 'draining', step: 'revert' },
  { status: 'draining', step: 'complete' },
  { status: 'reverting', step: 'create' },
  { status: 'reverting', step: 'update' },
  { status: 'reverting', step: 'retire' },
  { status: 'reverting', step: 'fail' },
] as const satisfies readonly { readonly status: ReleaseStatus; readonly step: ReleaseDeed }[]

export interface ReleaseView {
  /** Those of the plan and of the way back that exist or have existed, by id. */
  readonly machines: ReadonlyMap<MachineId, ReleaseMachine>
  /** An older release of this app that has not ended. */
  readonly earlier: Pick<Release, 'version' | 'cause' | 'createdBy'> | null
  /** Somebody asked for a rollback since: who wants to go back does not want to wait until this one has failed. */
  readonly supersededBy: Pick<Release, 'version' | 'createdBy'> | null
}

/** The first machine of a canary shows for as long that it stays up: Fly looks as long at each. */
const CANARY_HOLD_MS = 10_000
/** So long all new machines must have been ready in the end, without a break. */
export const PROVED_MS = 3_000
/** A release that serves, or has been undone, does not wait for longer for machines that finish what they do. */
export const LEAVING_MS = 10_000
const LOOK_AGAIN_MS = 1_000

export function nextReleaseStep(release: Release, view: ReleaseView, now: Instant): ReleaseStep {
  switch (release.status) {
    case 'pending': {
      const { earlier } = view
      if (earlier === null) return { kind: 'begin' }
      const why = `release ${earlier.version} (${earlier.cause}) by ${earlier.createdBy} is still being rolled out`
      return wait(now, null, why)
    }
    case 'starting':
      return nextStart(release, view, now)
    case 'draining':
      return nextDrain(release, view, now)
    case 'reverting':
      return nextReturn(release, view, now)
    case 'complete':
    case 'failed':
      return { kind: 'settled' }
    default:
      return assertNever(release.status)
  }
}

function nextStart(release: Release, view: ReleaseView, now: Instant): ReleaseStep {
  const { supersededBy } = view
  if (supersededBy !== null) {
    const reason = `${supersededBy.createdBy} asked for a rollback meanwhile (release ${supersededBy.version})`
    return { kind: 'revert', reason, machine: null }
  }
  // What a later wave has prepared may fail already: the sooner that is known, the less is to be undone.
  for (const replacement of release.plan) {
    const trouble = troubleOf(replacement, release, view)
    if (trouble !== null) return { kind: 'revert', ...trouble }
  }
  const last = lastWave(release.plan)
  for (let wave = 0; wave < last; wave++) {
    const step = bringUp(release, wave, view, now) ?? handOver(release, wave, view, now)
    if (step !== null) return step
  }
  const step = bringUp(release, last, view, now)
  if (step !== null) return step
  const sources = sourcesOf(release.plan, view).filter(isWanted)
  return untilFree(sources, release, now) ?? { kind: 'commit', machines: sources.map((m) => m.id) }
}

type Trouble = { readonly reason: string; readonly machine: MachineId | null }

function troubleOf(replacement: Replacement, release: Release, view: ReleaseView): Trouble | null {
  const machine = machineOf(view, replacement.target)
  if (isInPlace(replacement)) {
    if (machine === null || !isWanted(machine)) {
      const how = machine === null ? 'is gone with its host' : 'was destroyed by somebody'
      const reason = `machine ${replacement.target} in ${replacement.region} ${how} before it was replaced`
      return { reason, machine: null }
    }
    // Who stopped it meanwhile wants it stopped.
    if (!isVersion(machine, release.version) || machine.assignment.goal !== 'started') return null
  }
  if (machine === null) return null
  const reason = troubleWith(machine)
  return reason === null ? null : { reason, machine: machine.id }
}

/** null when every new machine of the wave serves. */
function bringUp(
  release: Release,
  wave: number,
  view: ReleaseView,
  now: Instant,
): ReleaseStep | null {
  const { plan, deadline } = release
  const comes = plan.filter((r) => r.wave === wave && r.target !== null)
  const round = plan.find((r) => r.wave === wave)?.round ?? 0
  const unready = comes.flatMap((replacement) => {
    const machine = machineOf(view, replacement.target)
    return machine !== null && !takesOver(replacement, machine, release) ? [machine] : []
  })
  const here = comes.filter((r) => machineOf(view, r.target) === null)
  if (here.length === 0 && unready.length === 0) return null
  if (now >= deadline) return outOfTime(release, unready)

  const missing = plan.filter(
    (r) => r.round === round && r.target !== null && machineOf(view, r.target) === null,
  )
  if (missing.length > 0) return { kind: 'create', replacements: missing, wave }
  const prepared = unready.filter((m) => m.assignment.goal === 'created')
  if (prepared.length > 0) return { kind: 'start', machines: idsOf(prepared) }
  const older = comes.filter(isInPlace).flatMap((r) => {
    const machine = machineOf(view, r.target)
    return machine === null || isVersion(machine, release.version) ? [] : [machine]
  })
  if (older.length > 0)
    return untilFree(older, release, now) ?? { kind: 'update', machines: idsOf(older) }

  const held = unready.filter((m) => m.assignment.cordoned && (m.readyMs ?? 0) >= READY_HOLD_MS)
  if (release.strategy === 'bluegreen' && held.length > 0 && held.length === unready.length)
    return { kind: 'admit', machines: idsOf(held) }
  // While these show that they stay up, the next ones may come up already; nothing goes for them before their turn.
  const following = plan
    .filter((r) => r.wave === wave + 1 && r.round === round)
    .flatMap((r) => machineOf(view, r.target) ?? [])
    .filter((m) => m.assignment.goal === 'created')
  if (following.length > 0 && mayOverlap(release, wave) && unready.every((m) => m.readyMs !== null))
    return { kind: 'start', machines: idsOf(following) }
  const until = soonest(unready, holdMs(release, wave), now)
  return { kind: 'wait', until: Math.min(until, deadline), why: whyWaitingFor(unready) }
}

/** When the first of them has been ready for so long; what else they wait for shows by itself. */
function soonest(machines: readonly ReleaseMachine[], readyMs: number, now: Instant): Instant {
  const leftMs = machines
    .map((m) => readyMs - (m.readyMs ?? 0))
    .filter((ms) => ms > 0 && ms < LOOK_AGAIN_MS)
  return now + Math.min(LOOK_AGAIN_MS, ...leftMs)
}

/** The first of a canary is on trial alone. */
function mayOverlap({ strategy }: Release, wave: number): boolean {
  return strategy === 'rolling' || (strategy === 'canary' && wave > 0)
}

function holdMs({ strategy }: Release, wave: number): number {
  return strategy === 'canary' && wave === 0 ? CANARY_HOLD_MS : READY_HOLD_MS
}

/** What it replaces may go. */
function takesOver(replacement: Replacement, machine: ReleaseMachine, release: Release): boolean {
  const { cordoned, goal } = machine.assignment
  if (isInPlace(replacement) && goal !== 'started') return isVersion(machine, release.version)
  if (isInPlace(replacement) && !isVersion(machine, release.version)) return false
  switch (release.strategy) {
    case 'immediate':
      return machine.startedMs !== null && goal === 'started'
    case 'bluegreen':
      return isServing(machine) && !cordoned
    case 'canary':
      return isServing(machine) && (machine.readyMs ?? 0) >= holdMs(release, replacement.wave)
    case 'rolling':
    case 'recreate':
      return isServing(machine)
    default:
      return assertNever(release.strategy)
  }
}

/** null when the next wave may begin: those that this one replaces have been told to go, and are gone where room is short. */
function handOver(
  release: Release,
  wave: number,
  view: ReleaseView,
  now: Instant,
): ReleaseStep | null {
  const { plan, deadline } = release
  const sources = sourcesOf(
    plan.filter((r) => r.wave <= wave),
    view,
  )
  const toRetire = sources.filter(isWanted)
  if (toRetire.length > 0)
    return untilFree(toRetire, release, now) ?? { kind: 'retire', machines: idsOf(toRetire) }
  const roundOf = (n: number) => plan.find((r) => r.wave === n)?.round ?? 0
  const leaving = sources.filter((m) => !isGone(m))
  if (roundOf(wave) === roundOf(wave + 1) || leaving.length === 0) return null
  if (now >= deadline) return outOfTime(release, [])
  return wait(now, deadline, leavingText('old machine', leaving))
}

/** null when nobody holds a lease on any of them. */
function untilFree(
  machines: readonly ReleaseMachine[],
  release: Release,
  now: Instant,
): ReleaseStep | null {
  const held = machines.find((m) => m.lease)
  if (held === undefined) return null
  if (now < release.deadline) return wait(now, release.deadline, leaseText(held))
  const reason = `not done in the time that was given (${seconds(release.waitTimeoutMs)}): ${leaseText(held)}`
  return { kind: 'revert', reason, machine: null }
}

function leaseText(machine: ReleaseMachine): string {
  return `${nameOf(machine)} is waited for: ${machine.lease}`
}

function outOfTime(release: Release, unready: readonly ReleaseMachine[]): ReleaseStep {
  const [first] = unready
  return {
    kind: 'revert',
    reason: `not done in the time that was given (${seconds(release.waitTimeoutMs)})${first === undefined ? '' : `: ${whyUnready(first)}`}`,
    machine: first?.id ?? null,
  }
}

/** It serves. It may still turn out that its machines don't stay up. */
function nextDrain(release: Release, view: ReleaseView, now: Instant): ReleaseStep {
  const comes = release.plan.flatMap((r) => machineOf(view, r.target) ?? [])
  const mustProve = comes.filter(
    (m) =>
      release.strategy !== 'immediate' &&
      // A person may do with them what they like, and a host may die: neither speaks against the release.
      m.assignment.goal === 'started' &&
      m.hostSilentMs <= HOST_SILENT_MS &&
      isVersion(m, release.version) &&
      (m.readyMs ?? 0) < PROVED_MS,
  )
  const over = now >= release.updatedAt + LEAVING_MS
  for (const machine of mustProve) {
    if (!hasEnded(machine)) continue
    const trouble = troubleWith(machine) ?? (over ? whyUnready(machine) : null)
    if (trouble !== null)
      return { kind: 'revert', reason: `it served, but ${trouble}`, machine: machine.id }
  }
  const leaving = sourcesOf(release.plan, view).filter((m) => !isGone(m))
  if (over || (mustProve.length === 0 && leaving.length === 0))
    return { kind: 'complete', leaving: leaving.length }
  const until = Math.min(release.updatedAt + LEAVING_MS, soonest(mustProve, PROVED_MS, now))
  if (leaving.length > 0) return { kind: 'wait', until, why: leavingText('old machine', leaving) }
  return { kind: 'wait', until, why: 'the new machines are watched for a moment' }
}

/**
 * Nothing here gives up: what can't be brought back is left as it is, the rest goes on, and in the end it is said what runs what.
 * A machine that serves goes only when the one for it serves.
 */
function nextReturn(release: Release, view: ReleaseView, now: Instant): ReleaseStep {
  const { undo, deadline, returnTo } = release
  const there = new Map(
    [...release.plan, ...undo]
      .flatMap((r) => [machineOf(view, r.source), machineOf(view, r.target)])
      .flatMap((m) => (m === null ? [] : [[m.id, m] as const])),
  )
  const leaving = [...there.values()].filter((m) => !isWanted(m) && !isGone(m))
  /** null when there is nothing to do, or nothing that may be done: whose lease outlasts the return keeps the machine as it is. */
  const act = (
    kind: 'retire' | 'update',
    machines: readonly ReleaseMachine[],
  ): ReleaseStep | null => {
    const free = machines.filter((m) => !m.lease)
    if (free.length > 0) return { kind, machines: idsOf(free) }
    const [first] = machines
    return first !== undefined && now < deadline ? wait(now, deadline, leaseText(first)) : null
  }
  for (let wave = 0; wave <= lastWave(undo); wave++) {
    const entries = undo.filter((r) => r.wave === wave)
    const removed = entries
      .filter((r) => r.target === null)
      .flatMap((r) => machineOf(view, r.source) ?? [])
    const removing = act('retire', removed.filter(isWanted))
    if (removing !== null) return removing

    const comes = entries.filter((r) => r.target !== null)
    const missing = comes.filter((r) => !isInPlace(r) && machineOf(view, r.target) === null)
    // Room that others were told to leave.
    const leavingTo = (r: Replacement) =>
      leaving.filter((m) => r.round > 0 && m.host === r.host && now < deadline)
    const possible = missing.filter((r) => leavingTo(r).length === 0)
    if (possible.length > 0) return { kind: 'create', replacements: possible, wave }
    const older = comes.filter(isInPlace).flatMap((r) => machineOf(view, r.target) ?? [])
    const updating = act(
      'update',
      older.filter((m) => isWanted(m) && !isVersion(m, returnTo)),
    )
    if (updating !== null) return updating
    if (missing.length > 0)
      return wait(now, deadline, leavingText('machine', missing.flatMap(leavingTo)))

    const pairs = comes.flatMap((replacement) => {
      const machine = machineOf(view, replacement.target)
      return machine === null ? [] : [{ replacement, machine }]
    })
    const hoped = pairs
      .map(({ machine }) => machine)
      .filter((m) => isWanted(m) && isVersion(m, returnTo) && !isBack(m, release))
      .filter((m) => troubleWith(m) === null)
    if (hoped.length > 0 && now < deadline) return wait(now, deadline, whyWaitingFor(hoped))
    // Of two that are there for each other the one stays that serves.
    const over = pairs.flatMap(({ replacement, machine }) => {
      const source = isInPlace(replacement) ? null : machineOf(view, replacement.source)
      if (source === null || !isWanted(source)) return []
      return [isBack(machine, release) ? source : machine]
    })
    const retiring = act('retire', over.filter(isWanted))
    if (retiring !== null) return retiring
  }
  const until = release.updatedAt + LEAVING_MS
  if (leaving.length > 0 && now < until) return wait(now, until, leavingText('machine', leaving))
  return { kind: 'fail', ...outcomeOf(release, view) }
}

/** It runs what served before. Who stopped it meanwhile wants it stopped. */
function isBack(machine: ReleaseMachine, release: Release): boolean {
  if (!isVersion(machine, release.returnTo)) return false
  const { goal } = machine.assignment
  return isServing(machine) || goal === 'stopped' || goal === 'suspended'
}

const NAMED_MAX = 6

/** What is said in the end: all is as before, or exactly what is not. */
function outcomeOf(
  release: Release,
  view: ReleaseView,
): { readonly reason: string; readonly returned: boolean } {
  const { undo, returnTo, version, app } = release
  const reason = release.reason ?? 'it was given up'
  const wrong = undo.flatMap((replacement) => {
    const source = machineOf(view, replacement.source)
    const target = machineOf(view, replacement.target)
    if (source !== null && isWanted(source) && !isVersion(source, returnTo))
      return [
        `${nameOf(source)} runs release ${version}${source.lease ? ` (${source.lease})` : ''}`,
      ]
    if (target !== null && isWanted(target) && !isBack(target, release))
      return [`${nameOf(target)} is of release ${returnTo} again, but ${whyUnready(target)}`]
    if (replacement.target !== null && target === null)
      return [`a machine in ${replacement.region} is missing`]
    return []
  })
  if (wrong.length === 0 && release.returned !== false) {
    const came = undo.some((r) => r.target !== null)
    return {
      reason: came ? `${reason}; all machines run release ${returnTo} again` : reason,
      returned: true,
    }
  }
  const named = wrong.slice(0, NAMED_MAX)
  const more = wrong.length > NAMED_MAX ? [`and ${wrong.length - NAMED_MAX} more`] : []
  const text = [...named, ...more].join('; ')
  const mend =
    returnTo === 0
      ? `roost deploy -a ${app}`
      : `roost rollback ${returnTo} -a ${app}, or roost deploy -a ${app}`
  return {
    reason: `${reason}; not everything could be returned${text === '' ? '' : `: ${text}`}. Bring all to one release: ${mend}`,
    returned: false,
  }
}

function isVersion(machine: ReleaseMachine, version: number): boolean {
  return releaseOf(machine.assignment.config) === version
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

/** The machines that go, without those that are replaced in place. */
function sourcesOf(plan: readonly Replacement[], view: ReleaseView): ReleaseMachine[] {
  return plan.filter((r) => !isInPlace(r)).flatMap((r) => machineOf(view, r.source) ?? [])
}

function machineOf(view: ReleaseView, id: MachineId | null): ReleaseMachine | null {
  return id === null ? null : (view.machines.get(id) ?? null)
}

function idsOf(machines: readonly ReleaseMachine[]): MachineId[] {
  return machines.map((m) => m.id)
}

function lastWave(plan: readonly Replacement[]): number {
  return plan.reduce((most, r) => Math.max(most, r.wave), 0)
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`
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
