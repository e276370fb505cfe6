import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { silentLogger, systemClock } from '@roost/base'
import type { Assignment, HostId, MachineConfig } from '@roost/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { leftoversOf } from '../containerd/leftovers.ts'
import { mortal } from '../containerd/mortal.ts'
import { eventually, raiseTrialHost, type TrialHost } from '../containerd/trial-host.ts'
import { createMachineKeeper, type MachineKeeper } from './keep-machines.ts'
import { openRecordStore } from './record-store.ts'
import { containersAssignment, part, SERVES } from './trial-containers.ts'

/**
 * kill -9 of the agent while it starts a machine of several programs, after each of the things that it asks of containerd and the
 * network for it: the next one brings the machine up as if nothing had been, with what its programs share.
 */
const trial: { host: TrialHost | null; slot: number } = { host: null, slot: 0 }
const host = () => trial.host as TrialHost
const NEVER = new AbortController().signal
/** `EVERY=1` is for a soak: each step instead of some. */
const EVERY = Number(process.env['EVERY'] ?? 23)
const STEPS_MAX = 400
/** Nobody waits for what they never hear. */
const dead: MachineKeeper[] = []

beforeAll(async () => {
  trial.host = await raiseTrialHost()
})
afterAll(async () => {
  await Promise.all(dead.map((keeper) => keeper.stop()))
  await trial.host?.close()
})

async function startAgent(life?: ReturnType<typeof mortal>) {
  const agent = await host().openAgent(life === undefined ? {} : { through: life.through })
  const kept = openRecordStore({ file: join(host().dir, 'machines.sqlite'), log: silentLogger })
  const keeper = createMachineKeeper({
    runtime: agent.runtime,
    checks: { start: () => () => {} },
    clock: systemClock,
    log: silentLogger,
    // The dead write nothing down.
    store: {
      ...kept,
      save: (one) => void (life?.isDead() || kept.save(one)),
      remove: (id) => void (life?.isDead() || kept.remove(id)),
      flush: () => void (life?.isDead() || kept.flush()),
    },
    host: { id: 'h1' as HostId },
    unseal: async () => ({ KEY: Buffer.from('the key\n').toString('base64') }),
    onStatus: () => {},
  })
  return {
    agent,
    keeper,
    async close() {
      if (life?.isDead()) dead.push(keeper)
      else await keeper.stop()
      kept.close()
      await agent.close()
    },
  }
}

const files = [{ guest_path: '/etc/app/key', secret_name: 'KEY', mode: 0o444 }]
const STORIES: Readonly<
  Record<string, { readonly config: Partial<MachineConfig>; readonly programs: number }>
> = {
  'containers that share a folder': {
    programs: 2,
    config: {
      containers: [
        part('app', `cat /shared/made /etc/app/key; ${SERVES}`, {
          depends_on: [{ name: 'init', condition: 'exited_successfully' }],
          mounts: [{ name: 'shared', path: '/shared' }],
          files,
        }),
        part('helper', SERVES, { mounts: [{ name: 'shared', path: '/shared' }], files }),
        part('init', 'echo made > /shared/made', {
          mounts: [{ name: 'shared', path: '/shared' }],
          restart: { policy: 'no', max_retries: 0 },
        }),
      ],
      volumes: [{ name: 'shared', temp_dir: { storage_type: 'disk', size_mb: 16 } }],
      restart: { policy: 'always', max_retries: 0 },
    },
  },
  'processes of one image': {
    programs: 2,
    config: {
      processes: ['one', 'two'].map((word) => ({
        exec: ['sh', '-c', `cat /etc/app/key; echo ${word}; ${SERVES}`],
      })),
      files,
      restart: { policy: 'always', max_retries: 0 },
    },
  },
}

type Kept = Awaited<ReturnType<typeof startAgent>>

/** All of its programs run. */
const isUp = async ({ keeper }: Kept, { id }: Assignment, programs: number) => {
  const status = keeper.statuses().find((one) => one.id === id)
  const running = status?.containers?.filter(({ state }) => state === 'started').length
  if (status?.state !== 'started' || running !== programs)
    throw new Error(`it is ${JSON.stringify(status)}`)
}

/** Dies after so many requests. False: it was up before that. */
async function dieAfter(requests: number, story: string): Promise<boolean> {
  const { config, programs } = STORIES[story] ?? { config: {}, programs: 0 }
  rmSync(join(host().dir, 'machines.sqlite'), { force: true })
  const assignment = await containersAssignment(host(), trial.slot++, config)
  const { id } = assignment
  const life = mortal()
  const first = await startAgent(life)
  let died = false
  try {
    life.arm(requests)
    first.keeper.setAssignments([assignment])
    const up = eventually(() => isUp(first, assignment, programs), 60_000)
    up.catch(() => {})
    died = (await Promise.race([life.death, up])) === 'dead'
  } finally {
    await first.close()
  }
  const next = await startAgent()
  try {
    next.keeper.setAssignments([assignment])
    await eventually(() => isUp(next, assignment, programs), 60_000)
    const shown = await next.agent.runtime.look(id)
    for (const { name, state } of shown?.containers ?? []) {
      if (state !== 'running') continue
      const words = ['cat', '/etc/app/key', ...(name === 'helper' ? ['/shared/made'] : [])]
      const asked = { container: name, command: words, timeoutMs: 10_000 }
      const { stdout } = await next.agent.runtime.exec(id, asked, NEVER)
      const expected = name === 'helper' ? 'the key\nmade\n' : 'the key\n'
      expect({ requests, name, said: stdout.toString() }).toEqual({
        requests,
        name,
        said: expected,
      })
    }
    next.keeper.setAssignments([])
    await eventually(async () => expect(await next.agent.runtime.look(id)).toBeNull(), 30_000)
    await eventually(async () => {
      await next.agent.network.ensure({ hosts: [], networks: [] })
      const left = await leftoversOf(host(), next.agent.client, id)
      expect({ requests, left }).toEqual({ requests, left: [] })
    }, 10_000)
  } finally {
    await next.close()
  }
  return died
}

test.each(Object.keys(STORIES))(
  'an agent that dies anywhere in a start of %s is followed by one that starts them',
  { timeout: 1_200_000 },
  async (story) => {
    let requests = 1
    for (; requests <= STEPS_MAX; requests += EVERY) if (!(await dieAfter(requests, story))) break
    expect(requests).toBeGreaterThan(10)
    expect(requests).toBeLessThan(STEPS_MAX)
  },
)
