import type { Misbehaviour } from '../../packages/agent/src/fake-runtime.ts'
import {
  type Instant,
  isFinal,
  isReady,
  type MachineId,
  mayChange,
  parseStamp,
  type RegionCode,
  type Release,
} from '../../packages/core/src/index.ts'
import { shownState } from '../../packages/server/src/machine/state.ts'
import type { StoredMachine } from '../../packages/server/src/store/machines.ts'
import type { Store } from '../../packages/server/src/store/store.ts'
import type { SimHost } from './sim-host.ts'
import { RELEASED_APP, type SimServer } from './sim-server.ts'

interface Seen {
  readonly hosts: readonly SimHost[]
  readonly server: SimServer
  readonly serverWall: { now(): Instant }
  readonly invariants: { lostIn(): ReadonlySet<RegionCode> }
}

/** Where the world is not (yet) as it was asked to be, in words: the server's view, the hosts' containers, and both together. */
export async function unsettled(world: Seen): Promise<readonly string[]> {
  const { hosts, server } = world
  const machines = await server.machines()
  const { all, serving } = await server.releases()
  const known = new Set(machines.map(({ assignment }) => assignment.id))
  const leftovers = hosts.flatMap(({ fake }) =>
    [...fake.machines.keys()]
      .filter((id) => !known.has(id))
      .map((id) => `${id} still exists though it was destroyed`),
  )
  const twice = [...known].filter(
    (id) => hosts.filter(({ fake }) => fake.machines.has(id)).length > 1,
  )
  return [
    ...leftovers,
    ...twice.map((id) => `${id} exists on two hosts`),
    ...wrongWithMemories(hosts, known),
    ...wrongWithEdges(hosts, machines),
    ...wrongWithReleases(world, machines, all, await server.release(serving)),
    ...(await wrongWithTables(server.store(), machines.length)),
    ...machines.flatMap((machine) => [
      ...wrongWith(machine, world),
      ...wrongWithLease(machine, world.serverWall.now()),
    ]),
  ]
}

/** Nobody remembers machines that are gone. */
function wrongWithMemories(hosts: readonly SimHost[], known: ReadonlySet<MachineId>): string[] {
  return hosts.flatMap(({ name, agent }) =>
    agent
      .remembered()
      .filter((id) => !known.has(id))
      .map((id) => `the agent of ${name} remembers ${id}, which was destroyed`),
  )
}

/** Every edge sends requests where it should: one whose connection died unnoticed learns of it after a while. */
function wrongWithEdges(hosts: readonly SimHost[], machines: readonly StoredMachine[]): string[] {
  const wanted = machines
    .filter(({ assignment: { app, routed } }) => app === RELEASED_APP && routed)
    .filter(({ status }) => status !== null && isReady(status))
    .map(({ assignment }) => assignment.id)
  return hosts.flatMap(({ edge }) => {
    const sent = edge.inRotation(RELEASED_APP)
    const same = sent.length === wanted.length && wanted.every((id) => sent.includes(id))
    return same || !edge.alive() ? [] : [`${edge.name} sends requests to ${sent.join(', ')}`]
  })
}

/** What is told to others is what there is, and nothing of what is gone but that it is gone. */
async function wrongWithTables(store: Store, machines: number): Promise<string[]> {
  const { live, statuses } = await store.read(async ({ db }) => ({
    live: await db
      .selectFrom('records')
      .select((at) => ['kind', at.fn.countAll<number>().as('n')])
      .where('value', 'is not', null)
      .groupBy('kind')
      .execute(),
    statuses: await db
      .selectFrom('statuses')
      .select((at) => at.fn.countAll<number>().as('n'))
      .innerJoin('machines', 'machines.id', 'statuses.machine')
      .where('machines.destroyed_at', 'is', null)
      .executeTakeFirstOrThrow(),
  }))
  const of = (kind: string) => Number(live.find((row) => row.kind === kind)?.n ?? 0)
  return [
    ...(of('assignment') === machines
      ? []
      : [`${of('assignment')} assignments are told of ${machines} machines`]),
    ...(of('machine') === machines
      ? []
      : [`${of('machine')} views are told of ${machines} machines`]),
    ...(Number(statuses.n) <= machines ? [] : ['more statuses than machines']),
  ]
}

/** How many machines the last good releases asked for, by region. */
function wantedScale(releases: readonly Release[], serving: Release): Record<string, number> {
  const scale: Record<string, number> = {}
  const oldestFirst = [...releases].reverse()
  for (const { cause, status, ask, version } of oldestFirst) {
    const counts = status === 'complete' || version === serving.version
    if (!counts || ask.scale === null) continue
    if (cause === 'deploy') for (const region of Object.keys(scale)) delete scale[region]
    Object.assign(scale, ask.scale)
  }
  return scale
}

/** All have ended, and what runs is what the last good one asked for: version, regions and number. */
function wrongWithReleases(
  world: Seen,
  all: readonly StoredMachine[],
  releases: readonly Release[],
  good: Release | null,
): readonly string[] {
  const open = releases.filter(({ status }) => !isFinal(status))
  if (open.length > 0)
    return open.map(({ version, status }) => `release ${version} is still ${status}`)
  const machines = all.filter(({ assignment: a }) => a.app === RELEASED_APP)
  if (good === null)
    return machines.length === 0 ? [] : [`${machines.length} machines of no release`]
  const lost = world.invariants.lostIn()
  const versions = machines.filter(
    ({ assignment: { config } }) => config.env['VERSION'] !== good.config.env['VERSION'],
  )
  return [
    ...versions.map(({ assignment }) => `${assignment.id} is not of release ${good.version}`),
    ...Object.entries(wantedScale(releases, good)).flatMap(([region, count]) => {
      const there = machines.filter(({ assignment }) => assignment.region === region).length
      // What was on a host that is gone is made anew by the next deploy.
      if (there === count || (there < count && lost.has(region as RegionCode))) return []
      return [`${there} machines in ${region}, release ${good.version} asked ${count}`]
    }),
  ]
}

/** A lease that has ended keeps nobody out. */
function wrongWithLease({ assignment, lease }: StoredMachine, now: Instant): string[] {
  if (lease === null || now <= lease.expiresAt) return []
  return mayChange(lease, null, now).kind === 'may'
    ? []
    : [`the lease on ${assignment.id} has ended and still keeps others out`]
}

function wrongWith(machine: StoredMachine, { hosts }: Seen): readonly string[] {
  const { assignment } = machine
  const { id, goal } = assignment
  const container = hosts.find((host) => host.id() === assignment.host)?.fake.machines.get(id)
  const told: Misbehaviour = JSON.parse(assignment.config.env['MISBEHAVIOUR'] ?? '{}')
  const runs = container?.state === 'running'
  const shown = shownState(machine)
  const wrong = (what: string) => [`${id} is wanted ${goal}, but ${what}`]

  if (goal === 'destroyed') return wrong(`is not gone (${container?.state ?? 'no container'})`)
  if (goal === 'stopped' || goal === 'created') {
    if (runs) return wrong('runs')
    const failed = goal === 'created' && shown === 'failed'
    if (container?.state === 'suspended') return wrong('is suspended')
    return shown === goal || failed ? [] : wrong(`is shown ${shown}`)
  }
  if (goal === 'suspended') {
    if (runs) return wrong('runs')
    // What had ended before, or with its host, has nothing that could be kept.
    const should = container?.state === 'suspended' ? 'suspended' : 'stopped'
    return shown === should ? [] : wrong(`is shown ${shown}, not ${should}`)
  }
  if (!runs) {
    if (told.startImpossible === true && shown === 'failed') return []
    const mayEnd = told.exitsAfterMs !== undefined && assignment.config.restart.policy !== 'always'
    if (mayEnd && shown === 'stopped') return []
    return wrong(`does not run (${container?.state ?? 'no container'}, shown ${shown})`)
  }
  const stamp = parseStamp(container.spec.stamp)
  if (
    stamp.configGeneration !== assignment.configGeneration ||
    stamp.instanceId !== assignment.instanceId
  )
    return wrong(`version ${container.spec.stamp} runs, not ${assignment.configGeneration}`)
  if (container.environment['VERSION'] !== assignment.config.env['VERSION'])
    return wrong('runs with the environment of another version')
  if (shown !== 'started') return wrong(`is shown ${shown} though it runs`)
  if (machine.status?.startedAt !== container.startedAt)
    return wrong('is shown with an older start')
  if (!assignment.cordoned && !assignment.routed) return wrong('is out of rotation')
  return machine.readySince === null ? wrong('is not ready') : []
}
