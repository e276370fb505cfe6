import { systemClock } from '@roost/base'
import type { MachineId } from '@roost/core'
import { expect, test } from 'vitest'
import { createFakeHost, createFakeRuntime, type Misbehaviour, powerOff } from './fake-runtime.ts'
import { conformanceConfig, conformanceContainer, describeRuntime } from './runtime.conformance.ts'
import type { MachineSpec } from './runtime.ts'

const NEVER = new AbortController().signal

function specOf(n: number): MachineSpec {
  const id = String(n).padStart(14, '0') as MachineId
  return {
    id,
    stamp: `1/I${n}`,
    image: { repository: `registry.internal/${id}`, digest: `sha256:${n}` },
    config: conformanceConfig(),
    hostname: id,
    ipv4: '10.210.4.2',
    ipv6: 'fdaa::2',
  }
}

const PROGRAMS: Record<string, Misbehaviour> = {
  serves: {},
  exits: { exitsAfterMs: 10, exitCode: 7 },
  deaf: { ignoresStop: true },
  broken: { startFails: 'always', startImpossible: true },
}

describeRuntime('fake', async () => {
  const host = createFakeHost()
  host.missing.add(`sha256:${'0'.repeat(64)}`)
  let made = 0
  return {
    runtime: createFakeRuntime(host, systemClock),
    reopen: async () => createFakeRuntime(host, systemClock),
    spec: async (program) => {
      const spec = specOf(++made)
      host.misbehaviours.set(spec.id, PROGRAMS[program] ?? {})
      return spec
    },
    ready: async () => {},
    several: async (containers) => ({
      ...specOf(++made),
      config: conformanceConfig({
        containers: containers.map((one) =>
          conformanceContainer(one, {
            env: { MISBEHAVIOUR: JSON.stringify(PROGRAMS[one.program] ?? {}) },
          }),
        ),
      }),
    }),
    close: async () => {},
  }
})

test('it misbehaves as often as it is told, and counts that', async () => {
  const host = createFakeHost()
  const runtime = createFakeRuntime(host, systemClock)
  const spec = specOf(1)
  host.pulls.set(spec.image.repository, { pullFails: 'once' })
  host.misbehaviours.set(spec.id, { startFails: 'twice' })
  await expect(runtime.pull(spec.image, NEVER)).rejects.toThrow('told to fail')
  await runtime.pull(spec.image, NEVER)
  await runtime.create(spec, NEVER)
  await expect(runtime.start(spec.id, {}, NEVER)).rejects.toThrow()
  await expect(runtime.start(spec.id, {}, NEVER)).rejects.toThrow()
  await runtime.start(spec.id, {}, NEVER)
  expect(host.faults).toEqual(
    new Map([
      ['pull failed', 1],
      ['start failed', 2],
    ]),
  )
})

test('without room nothing is fetched, made or started, and what runs runs on', async () => {
  const host = createFakeHost()
  const runtime = createFakeRuntime(host, systemClock)
  const [one, two] = [specOf(1), specOf(2)]
  await runtime.pull(one.image, NEVER)
  await runtime.create(one, NEVER)
  await runtime.start(one.id, {}, NEVER)
  host.full = true
  await expect(runtime.pull(two.image, NEVER)).rejects.toThrow('no space left')
  host.images.add(two.image.digest)
  await expect(runtime.create(two, NEVER)).rejects.toThrow('no space left')
  expect((await runtime.look(one.id))?.state).toBe('running')
  host.full = false
  await runtime.create(two, NEVER)
  await runtime.start(two.id, {}, NEVER)
})

test('without power everything has ended, and nobody knows how', async () => {
  const host = createFakeHost()
  const runtime = createFakeRuntime(host, systemClock)
  const spec = specOf(1)
  await runtime.pull(spec.image, NEVER)
  await runtime.create(spec, NEVER)
  await runtime.start(spec.id, {}, NEVER)
  powerOff(host)
  expect(await runtime.look(spec.id)).toMatchObject({ state: 'exited', exit: null })
  await runtime.start(spec.id, {}, NEVER)
  expect((await runtime.look(spec.id))?.state).toBe('running')
})
