import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { runCommand } from '@roost/base'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  busyboxLayers,
  eventually,
  newMachineId,
  raiseTrialHost,
  type TrialHost,
} from '../containerd/trial-host.ts'
import { conformanceConfig } from '../runtime.conformance.ts'
import type { MachineSpec } from '../runtime.ts'

/** The blocks themselves of the disk that holds containerd's root, the agent's data and the logs: also what was deleted. */
const NEVER = new AbortController().signal
const trial: { host: TrialHost | null } = { host: null }
const host = () => trial.host as TrialHost

beforeAll(async () => {
  trial.host = await raiseTrialHost({ diskMb: 128 })
})
afterAll(async () => {
  await trial.host?.close()
})

async function onDisk(text: string): Promise<boolean> {
  await runCommand(['sync', '-f', host().dataDir])
  await runCommand(['sync', '-f', host().rawLogs])
  await runCommand(['sync'])
  const wanted = Buffer.from(text)
  const fd = openSync(host().diskFile ?? '', 'r')
  try {
    const chunk = Buffer.alloc(4 << 20)
    for (let at = 0; ; ) {
      const read = readSync(fd, chunk, 0, chunk.length, at)
      if (read === 0) return false
      if (chunk.subarray(0, read).includes(wanted)) return true
      // What lies across two pieces is in neither of them.
      at += read < chunk.length ? read : read - wanted.length
    }
  } finally {
    closeSync(fd)
  }
}

async function specOf(script: string): Promise<MachineSpec> {
  const id = newMachineId()
  return {
    id,
    stamp: `1:${id}`,
    image: await host().push('trial', { layers: busyboxLayers(['sh', 'sleep', 'kill', 'env']) }),
    config: conformanceConfig({ init: { exec: ['sh', '-c', script] } }),
    hostname: id,
    ipv4: '10.210.4.9',
    ipv6: `fdaa:0:1:1:${id.slice(2, 6)}:${id.slice(6, 10)}:${id.slice(10)}:2`,
  }
}

test('no secret is in any block of the disk: after start, crash, stop, removal, and an agent that is gone', async () => {
  const secret = `planted-${randomBytes(12).toString('hex')}`
  const open = `open-${randomBytes(12).toString('hex')}`
  const found: string[] = []
  const look = async (when: string) => {
    if (await onDisk(secret)) found.push(when)
  }
  const agent = await host().openAgent()
  // A crash with the rights to dump core, of a program that has the secret in its environment and its arguments.
  const crashes = await specOf(
    `echo ${open}; ulimit -c unlimited 2>/dev/null; sh -c 'sleep 0.1; kill -SEGV $$' "$SECRET"; kill -SEGV $$`,
  )
  const serves = await specOf(
    'trap "exit 0" TERM; echo "$SECRET" >/dev/null; while :; do sleep 0.05; done',
  )
  for (const spec of [crashes, serves]) {
    await agent.runtime.pull(spec.image, NEVER)
    await agent.runtime.create(spec, NEVER)
    await agent.runtime.start(spec.id, { SECRET: secret, OTHER: `${secret}'\n` }, NEVER)
  }
  await eventually(async () => {
    expect((await agent.runtime.look(crashes.id))?.state).not.toBe('running')
    expect((await agent.runtime.look(serves.id))?.state).toBe('running')
  })
  await look('start and crash')
  // That what is on the disk is found is part of the test.
  await eventually(async () => expect(await onDisk(open)).toBe(true))

  // As after kill -9 of an agent: nothing is closed.
  const next = await host().openAgent()
  await look('a new agent')
  await next.runtime.start(crashes.id, { SECRET: secret }, NEVER)
  await next.runtime.stop(serves.id, { signal: 'SIGTERM', timeoutMs: 5000 })
  await look('stop')
  await host().killContainerd()
  await look('kill -9 of containerd')
  await host().startContainerd()
  for (const { id } of [crashes, serves]) await eventually(() => next.runtime.remove(id))
  await look('removal')
  expect(found).toEqual([])
  for (const { id } of [crashes, serves])
    expect(existsSync(join(host().runDir, 'machines', id))).toBe(false)
  await agent.close()
  await next.close()
})
