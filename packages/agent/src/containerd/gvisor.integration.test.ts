import type { MachineId } from '@roost/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { conformanceConfig } from '../runtime.conformance.ts'
import type { MachineSpec } from '../runtime.ts'
import { requireGvisor } from './gvisor.ts'
import {
  busyboxLayers,
  eventually,
  newMachineId,
  raiseTrialHost,
  type TrialAgent,
  type TrialHost,
} from './trial-host.ts'

const NEVER = new AbortController().signal
const open: { host: TrialHost | null; agent: TrialAgent | null } = { host: null, agent: null }
const host = (): TrialHost => open.host as TrialHost
const agent = (): TrialAgent => open.agent as TrialAgent

beforeAll(async () => {
  open.host = await raiseTrialHost()
  open.agent = await host().openAgent()
})
afterAll(async () => {
  await open.agent?.close()
  await open.host?.close()
})

async function launch(isolation: 'gvisor' | 'runc', script: string): Promise<MachineSpec> {
  const layers = busyboxLayers(['sh', 'cat', 'dmesg', 'uname', 'sleep', 'head', 'env'])
  const image = await host().push('trial', { layers })
  const id = newMachineId()
  const init = { exec: ['sh', '-c', script] }
  const spec = {
    id,
    stamp: `1:${id}`,
    image,
    config: conformanceConfig(isolation === 'gvisor' ? { init, isolation } : { init }),
    hostname: id,
    ipv4: `10.210.4.${2 + slots.next++}`,
    ipv6: `fdaa:0:1:1:${id.slice(2, 6)}:${id.slice(6, 10)}:${id.slice(10)}:2`,
  }
  await agent().runtime.pull(spec.image, NEVER)
  await agent().runtime.create(spec, NEVER)
  await agent().runtime.start(spec.id, { SECRET: 'planted' }, NEVER)
  return spec
}
const slots = { next: 0 }

const said = (id: MachineId, what: string) =>
  eventually(async () => {
    const lines: string[] = []
    const asked = { machine: id, lines: 500, follow: false, signal: NEVER }
    for await (const line of agent().logs.readLogs(asked)) if (line) lines.push(line.message)
    if (!lines.some((line) => line.includes(what))) throw new Error(`it said ${lines.join('|')}`)
    return lines
  })

const LOOK =
  'echo "kernel $(cat /proc/version)"; dmesg 2>&1 | head -5; echo "secret $SECRET"; echo looked'
const SERVES =
  'trap "echo goodbye; exit 3" TERM; n=0; while :; do n=$((n+1)); echo "tick $n"; sleep 0.1; done'

test('a machine in gVisor sees the kernel of gVisor, has its secrets, and stops as it is asked', async () => {
  const { id } = await launch('gvisor', `${LOOK}; ${SERVES}`)
  const lines = (await said(id, 'tick 2')).join('\n')
  expect(lines).toMatch(/gVisor/)
  expect(lines).toContain('secret planted')
  await agent().runtime.stop(id, { signal: 'SIGTERM', timeoutMs: 20_000 })
  expect((await agent().runtime.look(id))?.exit).toMatchObject({ code: 3 })
  await agent().runtime.start(id, {}, NEVER)
  await agent().runtime.remove(id)
  expect(await agent().runtime.look(id)).toBeNull()
})

test('one that is not sees that of its host', async () => {
  const { id } = await launch('runc', `${LOOK}; ${SERVES}`)
  expect((await said(id, 'looked')).join('\n')).not.toMatch(/gVisor/)
  await agent().runtime.remove(id)
})

test('it is suspended and resumed as any other', async () => {
  const { id } = await launch('gvisor', SERVES)
  await said(id, 'tick 2')
  await agent().runtime.suspend(id)
  expect((await agent().runtime.look(id))?.state).toBe('suspended')
  const stood = (await said(id, 'tick 2')).length
  await agent().runtime.resume(id)
  const ticks = await said(id, `tick ${stood + 3}`)
  expect(ticks).toEqual(ticks.map((_, n) => `tick ${n + 1}`))
  await agent().runtime.remove(id)
})

test('programs run in it', async () => {
  const { id } = await launch('gvisor', SERVES)
  await said(id, 'tick 1')
  const request = { command: ['cat', '/proc/version'], timeoutMs: 20_000 }
  const { stdout, stderr, exitCode } = await agent().runtime.exec(
    id,
    { ...request, outputBytesMax: 10_000 },
    NEVER,
  )
  expect([exitCode, String(stderr)]).toEqual([0, ''])
  expect(String(stdout)).toMatch(/gVisor|Linux version 4\.4/)
  await agent().runtime.remove(id)
})

test('where it is not installed, what installs it is said', () => {
  expect(() => requireGvisor('/nothing/runsc')).toThrow('apt-get install runsc')
})
