import { join } from 'node:path'
import type { MachineId } from '@roost/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { conformanceConfig } from '../runtime.conformance.ts'
import type { MachineSpec, Runtime } from '../runtime.ts'
import { ContainerdClient } from './client.ts'
import { leftoversOf } from './leftovers.ts'
import { mortal } from './mortal.ts'
import {
  busyboxLayers,
  eventually,
  newMachineId,
  raiseTrialHost,
  type TrialAgent,
  type TrialHost,
} from './trial-host.ts'

/**
 * An agent that dies after each single thing that it asks of containerd or the network, in each of its deeds. What it asked for
 * happens, and it never comes to know. The next agent must find its way from there, and in the end nothing may stay.
 */
const trial: { host: TrialHost | null; slot: number } = { host: null, slot: 0 }
const host = () => trial.host as TrialHost
const NEVER = new AbortController().signal
const STEPS_MAX = 60
/** Of agents that die on one host, each with a machine of its own, before the next one comes. */
const AT_ONCE = 6

beforeAll(async () => {
  trial.host = await raiseTrialHost()
  // Those who pull at once are as many agents, and only within one does a pull wait for another of the same layer.
  const first = await trial.host.openAgent()
  await first.runtime.pull((await newSpec()).image, NEVER)
  await first.close()
})
afterAll(async () => {
  await trial.host?.close()
})

async function newSpec(): Promise<MachineSpec> {
  const id = newMachineId()
  const layers = [...busyboxLayers(['sh', 'sleep']), { [`only-${id}`]: { content: 'x' } }]
  return {
    id,
    stamp: `1:${id}`,
    image: await host().push('trial', { layers }),
    config: conformanceConfig({
      init: { exec: ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.05; done'] },
    }),
    hostname: id,
    ipv4: `10.210.${4 + (trial.slot >> 8)}.${2 + (trial.slot++ & 127)}`,
    ipv6: `fdaa:0:1:1:${id.slice(2, 6)}:${id.slice(6, 10)}:${id.slice(10)}:2`,
  }
}

const DEEDS = ['pull', 'create', 'start', 'stop', 'remove'] as const
type Deed = (typeof DEEDS)[number]

function does(runtime: Runtime, deed: Deed, spec: MachineSpec): Promise<void> {
  switch (deed) {
    case 'pull':
      return runtime.pull(spec.image, NEVER)
    case 'create':
      return runtime.create(spec, NEVER)
    case 'start':
      return runtime.start(spec.id, { SECRET: 'x' }, NEVER)
    case 'stop':
      return runtime.stop(spec.id, { signal: 'SIGTERM', timeoutMs: 5000 })
    case 'remove':
      return runtime.remove(spec.id)
  }
}

/** One dies in `deed` after each of so many requests. `survivors`: those who had done it before that. */
async function dieIn(
  deed: Deed,
  deaths: readonly number[],
): Promise<{ survivors: readonly number[]; left: readonly string[] }> {
  const before = DEEDS.slice(0, DEEDS.indexOf(deed))
  const doomed = []
  // An agent sweeps when it begins, so all of them have begun before anything is left.
  for (const requests of deaths) {
    const life = mortal()
    const agent = await host().openAgent({ through: life.through })
    doomed.push({ requests, life, agent, spec: await newSpec() })
  }
  const survivors: number[] = []
  try {
    await Promise.all(
      doomed.map(async ({ requests, life, agent, spec }) => {
        for (const earlier of before) await does(agent.runtime, earlier, spec)
        life.arm(requests)
        const end = await Promise.race([life.death, does(agent.runtime, deed, spec)])
        if (end !== 'dead') survivors.push(requests)
      }),
    )
  } finally {
    for (const { agent } of doomed) await agent.close()
  }
  const ids = doomed.map(({ spec }) => spec.id)
  const watching = new ContainerdClient(join(host().runDir, 'containerd.sock'), 'roost')
  const left = await leftoversOf(host(), watching, ...ids)
  watching.close()
  const next = await host().openAgent()
  try {
    const gone: MachineId[] = []
    for (const id of ids) if ((await next.runtime.look(id)) === null) gone.push(id)
    // Nobody who is not there has left anything.
    const when = `${deed}, ${deaths.join()} requests`
    await nothingOf(next, gone, `${when}, swept`)
    // What was half done can be done.
    const goOn: Readonly<Record<Deed, readonly Deed[]>> = {
      pull: ['pull', 'create', 'remove'],
      create: DEEDS,
      start: ['start', 'stop', 'remove'],
      stop: ['stop', 'start', 'remove'],
      remove: ['remove'],
    }
    await Promise.all(
      doomed.map(async ({ spec }) => {
        for (const again of goOn[deed]) await does(next.runtime, again, spec)
      }),
    )
    await nothingOf(next, ids, `${when}, removed`)
  } finally {
    await next.close()
  }
  return { survivors, left }
}

async function nothingOf(agent: TrialAgent, ids: readonly MachineId[], when: string) {
  await eventually(async () => {
    // As the agent does every few seconds: rules go with the machines that they are for.
    await agent.network.ensure({ hosts: [], networks: [] })
    const left = await leftoversOf(host(), agent.client, ...ids)
    expect({ when, left }).toEqual({ when, left: [] })
  }, 5000)
}

const LEFT: Readonly<Record<Deed, string[]>> = {
  pull: ['lease', 'snapshot'],
  create: ['snapshot', 'namespace', 'link', 'directory'],
  start: ['container', 'task', 'snapshot', 'namespace', 'link', 'directory', 'log', 'bundle'],
  stop: ['container', 'task', 'cgroup', 'process'],
  remove: ['container', 'snapshot', 'namespace', 'link', 'directory'],
}

test.each(DEEDS)('an agent that dies anywhere in a %s leaves nothing', async (deed) => {
  const seen = new Set<string>()
  let requests = 1
  for (; requests <= STEPS_MAX; requests += AT_ONCE) {
    const deaths = Array.from({ length: AT_ONCE }, (_, n) => requests + n)
    const { survivors, left } = await dieIn(deed, deaths)
    for (const one of left) seen.add(one.split(' ')[0] ?? '')
    if (survivors.length === 0) continue
    requests = Math.min(...survivors)
    break
  }
  expect(requests).toBeGreaterThan(3)
  expect(requests).toBeLessThan(STEPS_MAX)
  // There was something to be found.
  expect([...seen]).toEqual(expect.arrayContaining(LEFT[deed]))
})
