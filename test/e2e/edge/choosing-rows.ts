import { expect } from 'vitest'
import type { Region } from '../playground.ts'
import { eventually } from '../terminal.ts'
import { ask, crowd, curl, type Echo, hear } from './clients.ts'
import { alone, differs, holds, holdsElsewhere, type Row } from './row.ts'
import type { AppName, World } from './world.ts'

/** Soft limit 2, hard limit 3: in ams twice, in iad and in syd once. */
const LIMITED = 'http://web:8090/'
const NOBODY = 'ffffffffffffff'
const QUICK = 6

const header = (name: string, value: string) => ['-H', `${name}: ${value}`] as const
const forced = (machine: string) => header('fly-force-instance-id', machine)
const machinesIn = (echoes: readonly Echo[]) => new Set(echoes.map(({ machine }) => machine))

/** The two in ams. */
function pair(world: World): readonly [string, string] {
  const [a = '', b = ''] = world.machines('web', 'ams')
  return [a, b]
}
function only(world: World, app: AppName, region: Region): string {
  return world.machines(app, region)[0] ?? ''
}

const LIMITS: readonly Row[] = [
  alone(
    holds(
      'own-region-first',
      'Below the soft limits the own region answers alone',
      'curl',
      async (world) => {
        const { echoes } = await crowd(world, 'ams', `${LIMITED}?ms=300`, 3)
        expect(echoes.map(({ region }) => region)).toEqual(['ams', 'ams', 'ams'])
      },
    ),
  ),
  alone(
    holds(
      'least-connections',
      'Inside a region, who has least to do is next',
      'curl',
      async (world) => {
        const [a, b] = pair(world)
        const long = ask(world, 'ams', `${LIMITED}?ms=4000`, ...forced(a))
        await eventually('it is at work', 2000, async () => {
          const { busy } = await ask(world, 'ams', LIMITED, ...forced(a))
          return busy > 1
        })
        const quick: Echo[] = []
        for (let n = 0; n < QUICK; n++) quick.push(await ask(world, 'ams', LIMITED))
        expect(machinesIn(quick)).toEqual(new Set([b]))
        await long
      },
    ),
  ),
  alone(
    holds(
      'next-region',
      'At the soft limits the next region by round trip gets the rest, and the own one serves alone again when there is room',
      'curl',
      async (world) => {
        const seen = new Set<string>()
        const quick = async () => {
          const { region } = await ask(world, 'ams', LIMITED)
          seen.add(region)
          return region
        }
        const long = crowd(world, 'ams', `${LIMITED}?ms=4000`, 4)
        await eventually('the next region answers', 3500, async () => (await quick()) === 'iad')
        expect(machinesIn((await long).echoes)).toEqual(new Set(pair(world)))
        await eventually('the own region answers alone', 10_000, async () => {
          const { echoes } = await crowd(world, 'ams', LIMITED, QUICK / 2)
          return echoes.every(({ region }) => region === 'ams')
        })
        expect(seen).not.toContain('syd')
      },
    ),
  ),
  alone(
    holds(
      'hard-limit',
      'Above all soft limits machines are filled up to their hard limits, and no further',
      'curl',
      async (world) => {
        const { echoes, others } = await crowd(world, 'ams', `${LIMITED}?ms=3000`, 12)
        expect(others).toEqual([])
        expect(machinesIn(echoes).size).toBe(4)
        expect(Math.max(...echoes.map(({ busy }) => busy))).toBe(3)
      },
    ),
  ),
  alone(
    holds(
      'all-full',
      'When all are full a request waits for 5 s; then 503 with `Retry-After`',
      'curl',
      async (world) => {
        const { echoes, others } = await crowd(world, 'ams', `${LIMITED}?ms=8000`, 14)
        expect([echoes.length, others.map(({ status }) => status)]).toEqual([12, [503, 503]])
        for (const { seconds, retryAfter } of others) {
          expect(seconds).toBeGreaterThan(4.5)
          expect(seconds).toBeLessThan(7)
          expect(retryAfter).toBe('1')
        }
      },
    ),
  ),
  alone(
    holds(
      'limits-of-connections',
      '`concurrency.type = "connections"` counts connections, also where nothing is said on them',
      'node:net',
      async (world) => {
        // Soft limit 1: the third that is open goes farther.
        await eventually('the next region gets the third', 20_000, async () => {
          const open = ['--count', '3', '--rate', '2']
          const { answers, failures } = await hear(world, 'ams', 'tcp', 9100, ...open)
          expect(failures).toEqual([])
          return answers['web ams one tcp / ping'] === 2 && answers['web iad one tcp / ping'] === 1
        })
      },
    ),
  ),
  {
    ...differs(
      'limits-over-all-edges',
      'Limits count what a machine has from all edges together',
      'they do, but edges hear of each other a second or two late: for so long, several that begin at once may each give a machine its hard limit; and each may always give it one request',
    ),
    elsewhere: {
      file: 'packages/edge/src/overflow/limit-plan.integration.test.ts',
      test: 'a hard limit holds for two edges together, none of them starves, and who is left alone has all of it',
    },
  },
]

const HEALTH: readonly Row[] = [
  alone(
    holds(
      'checks',
      'A check that fails takes a machine out, and brings it back when it passes',
      'curl',
      async (world) => {
        const [a, b] = pair(world)
        const answering = async () =>
          machinesIn((await crowd(world, 'ams', 'http://web/', QUICK)).echoes)
        await ask(world, 'ams', 'http://web/sick?for=5000', ...forced(a))
        await eventually('the other answers alone', 8000, async () => {
          const now = await answering()
          return now.size === 1 && now.has(b)
        })
        await eventually('both answer', 15_000, async () => (await answering()).size === 2)
      },
    ),
  ),
  alone(
    holds(
      'cordon',
      'A cordoned machine gets nothing new, and finishes what it has; uncordoned it serves again',
      'curl',
      async (world) => {
        const [a, b] = pair(world)
        const { ok } = world.terminal
        const long = ask(world, 'ams', 'http://web/?ms=4000', ...forced(a))
        await eventually('it is at work', 3000, async () => {
          return (await ask(world, 'ams', 'http://web/', ...forced(a))).busy > 1
        })
        await ok(['machine', 'cordon', a, '-a', 'web'])
        await eventually('the other answers alone', 5000, async () => {
          const { echoes } = await crowd(world, 'ams', 'http://web/', QUICK)
          return [...machinesIn(echoes)].join() === b
        })
        expect((await curl(world, 'ams', 'http://web/', ...forced(a))).status).toBe(503)
        expect((await long).machine).toBe(a)
        await ok(['machine', 'uncordon', a, '-a', 'web'])
        await eventually('both answer', 10_000, async () => {
          const { echoes } = await crowd(world, 'ams', 'http://web/', QUICK)
          return machinesIn(echoes).size === 2
        })
      },
    ),
  ),
  alone(
    holds(
      'nobody',
      'Where nobody can come, 503 with `Retry-After` at once',
      'curl',
      async (world) => {
        const { ok } = world.terminal
        const machine = only(world, 'raw', 'iad')
        await ok(['machine', 'cordon', machine, '-a', 'raw'])
        const { value } = await eventually('it is out', 5000, async () => {
          const began = performance.now()
          const answer = await curl(world, 'ams', 'http://raw:8080/')
          return answer.status !== 200 && { ...answer, ms: performance.now() - began }
        })
        expect([value.status, value.headers['retry-after']]).toEqual([503, '1'])
        expect(value.ms).toBeLessThan(3000)
        await ok(['machine', 'uncordon', machine, '-a', 'raw'])
        await eventually('it serves', 10_000, () => ask(world, 'ams', 'http://raw:8080/'))
      },
    ),
  ),
  holdsElsewhere(
    'dead-machine',
    'When a machine dies, GET and HEAD requests that were with it are sent to another, and nothing is done twice',
    'packages/edge/src/edge.integration.test.ts',
    'the sole machine of a region is killed or goes dark under load: others answer, and nothing is done twice',
  ),
  holds(
    'held',
    'While the only machine is started anew its requests wait for it',
    'curl',
    async (world) => {
      const going = { on: true }
      const restart = world.terminal
        .ok(['machine', 'restart', only(world, 'raw', 'iad'), '-a', 'raw'])
        .finally(() => {
          going.on = false
        })
      let longestMs = 0
      while (going.on) {
        const began = performance.now()
        await ask(world, 'iad', 'http://raw:8080/')
        longestMs = Math.max(longestMs, performance.now() - began)
      }
      await restart
      // It takes a second to end.
      expect(longestMs).toBeGreaterThan(800)
    },
  ),
]

const STEERED: readonly Row[] = [
  holds(
    'prefer-region',
    '`fly-prefer-region`: there if anybody is, else as ever',
    'curl',
    async (world) => {
      const regionOf = async (region: string) =>
        (await ask(world, 'ams', 'http://web/', ...header('fly-prefer-region', region))).region
      expect([await regionOf('syd'), await regionOf('nrt')]).toEqual(['syd', 'ams'])
    },
  ),
  holds(
    'force-region',
    '`fly-force-region`: a list in its order, names of many regions, else 503 with `Retry-After`',
    'curl',
    async (world) => {
      const answer = (region: string) =>
        curl(world, 'ams', 'http://web/', ...header('fly-force-region', region))
      for (const [word, region] of [
        ['iad', 'iad'],
        ['nrt,syd', 'syd'],
        ['us', 'iad'],
        ['apac', 'syd'],
        ['any', 'ams'],
      ] as const)
        expect(JSON.parse((await answer(word)).body).region, word).toBe(region)
      const { status, headers } = await answer('nrt')
      expect([status, headers['retry-after']]).toEqual([503, '1'])
    },
  ),
  holds(
    'prefer-instance-id',
    '`fly-prefer-instance-id`: that machine if it can, else another',
    'curl',
    async (world) => {
      const far = only(world, 'web', 'syd')
      const machineOf = async (id: string) =>
        (await ask(world, 'ams', 'http://web/', ...header('fly-prefer-instance-id', id))).machine
      expect(await machineOf(far)).toBe(far)
      expect(pair(world)).toContain(await machineOf(NOBODY))
    },
  ),
  holds(
    'force-instance-id',
    '`fly-force-instance-id`: that machine or 503, also for one of another app',
    'curl',
    async (world) => {
      const far = only(world, 'web', 'iad')
      expect((await ask(world, 'ams', 'http://web/', ...forced(far))).machine).toBe(far)
      for (const other of [NOBODY, only(world, 'raw', 'iad')]) {
        const { status, headers } = await curl(world, 'ams', 'http://web/', ...forced(other))
        expect([status, headers['retry-after']]).toEqual([503, '1'])
      }
    },
  ),
  differs(
    'force-instance-key',
    '`services[].force_instance_key`',
    'refused by name: sessions are bound to machines by replays that are kept',
  ),
]

const ASLEEP: readonly Row[] = [
  differs(
    'autostop',
    '`auto_stop_machines`, `auto_start_machines`, `min_machines_running`: machines that nobody needs sleep until a request comes',
    'taken, and named in a warning where fly.toml has them: machines do not sleep',
  ),
]

export const CHOOSING: readonly Row[] = [...LIMITS, ...HEALTH, ...STEERED, ...ASLEEP]
