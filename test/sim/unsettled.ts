import type { FakeHost, Misbehaviour } from '../../packages/agent/src/fake-runtime.ts'
import {
  type HostId,
  isFinal,
  type MachineId,
  parseStamp,
  type Release,
} from '../../packages/core/src/index.ts'
import { shownState } from '../../packages/server/src/machine/state.ts'
import type { StoredMachine } from '../../packages/server/src/store/machines.ts'
import { RELEASED_APP } from './sim-server.ts'

/** Where the world is not (yet) as it was asked to be, in words: the server's view, the hosts' containers, and both together. */
export function unsettled(world: {
  readonly machines: readonly StoredMachine[]
  readonly fakes: ReadonlyMap<HostId, FakeHost>
  readonly misbehaviours: ReadonlyMap<MachineId, Misbehaviour>
  readonly releases: readonly Release[]
  /** The release that serves; 0: none. */
  readonly serving: number
}): readonly string[] {
  const known = new Set(world.machines.map(({ assignment }) => assignment.id))
  const leftovers = [...world.fakes.values()].flatMap((fake) =>
    [...fake.machines.keys()]
      .filter((id) => !known.has(id))
      .map((id) => `${id} still exists though it was destroyed`),
  )
  const twice = [...known].filter(
    (id) => [...world.fakes.values()].filter((fake) => fake.machines.has(id)).length > 1,
  )
  return [
    ...leftovers,
    ...twice.map((id) => `${id} exists on two hosts`),
    ...wrongWithReleases(world),
    ...world.machines.flatMap((machine) => wrongWith(machine, world.fakes, world.misbehaviours)),
  ]
}

/** All have ended, and what runs is what the last good one asked for: version, regions and number. */
function wrongWithReleases(world: Parameters<typeof unsettled>[0]): readonly string[] {
  const { releases, serving } = world
  const open = releases.filter(({ status }) => !isFinal(status))
  if (open.length > 0)
    return open.map(({ version, status }) => `release ${version} is still ${status}`)
  const good = releases.find(({ version }) => version === serving)
  const machines = world.machines.filter(({ assignment: a }) => a.app === RELEASED_APP)
  if (good === undefined)
    return machines.length === 0 ? [] : [`${machines.length} machines of no release`]
  const wanted = Object.entries(good.ask.scale ?? {})
  const versions = machines.filter(
    ({ assignment: { config } }) => config.env['VERSION'] !== good.config.env['VERSION'],
  )
  return [
    ...versions.map(({ assignment }) => `${assignment.id} is not of release ${serving}`),
    ...wanted.flatMap(([region, count]) => {
      const there = machines.filter(({ assignment }) => assignment.region === region).length
      return there === count
        ? []
        : [`${there} machines in ${region}, release ${serving} asked ${count}`]
    }),
  ]
}

function wrongWith(
  machine: StoredMachine,
  fakes: ReadonlyMap<HostId, FakeHost>,
  misbehaviours: ReadonlyMap<MachineId, Misbehaviour>,
): readonly string[] {
  const { assignment } = machine
  const { id, goal } = assignment
  const container = fakes.get(assignment.host)?.machines.get(id)
  const told = misbehaviours.get(id) ?? {}
  const runs = container?.state === 'running'
  const shown = shownState(machine)
  const wrong = (what: string) => [`${id} is wanted ${goal}, but ${what}`]

  if (goal === 'destroyed') return wrong(`is not gone (${container?.state ?? 'no container'})`)
  if (goal === 'stopped' || goal === 'created') {
    if (runs) return wrong('runs')
    const failed = goal === 'created' && shown === 'failed'
    return shown === goal || failed ? [] : wrong(`is shown ${shown}`)
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
