import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { systemClock } from '@roost/base'
import type { CheckSpec, CheckStatus, MachineId } from '@roost/core'
import { afterEach, expect, test, vi } from 'vitest'
import { createProbeChecks } from './probe-checks.ts'

const open: { servers: Server[]; ends: (() => void)[] } = { servers: [], ends: [] }
afterEach(() => {
  for (const end of open.ends.splice(0)) end()
  for (const server of open.servers.splice(0)) server.close().closeAllConnections()
})

async function serve(status: () => number, port = 0): Promise<number> {
  const server = createServer((_request, reply) => reply.writeHead(status()).end())
  open.servers.push(server)
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

function check(
  spec: Partial<CheckSpec>,
  known: CheckStatus['status'] = 'warning',
  listening?: () => Promise<readonly string[]>,
) {
  const full: CheckSpec = {
    name: 'servicecheck-00-tcp-1',
    type: 'tcp',
    port: 1,
    interval_ms: 50,
    timeout_ms: 500,
    grace_period_ms: 0,
    ...spec,
  }
  const heard: CheckStatus[] = []
  const target = {
    id: '3d8d0000000001' as MachineId,
    address: '127.0.0.1',
    startedAt: Date.now(),
    specs: [full],
    known: [{ name: full.name, status: known, output: '', updatedAt: 0 }],
  }
  const checks = createProbeChecks({ clock: systemClock, ...(listening && { listening }) })
  open.ends.push(checks.start(target, (statuses) => heard.push(...statuses)))
  return heard
}
const LIMIT = { timeout: 5000, interval: 10 }

test('a port that listens passes, is said once, and fails when it is gone', async () => {
  const port = await serve(() => 200)
  const heard = check({ port })
  await vi.waitFor(() => expect(heard.map((s) => s.status)).toEqual(['passing']), LIMIT)
  for (const server of open.servers.splice(0)) server.close().closeAllConnections()
  await vi.waitFor(() => expect(heard.map((s) => s.status)).toEqual(['passing', 'critical']), LIMIT)
  expect(heard[1]?.output).toBe('connection refused')
})

test('nothing is said of a failure in the grace period', async () => {
  const port = await serve(() => 200)
  for (const server of open.servers.splice(0)) server.close()
  const heard = check({ port, grace_period_ms: 60_000 })
  await serve(() => 200, port)
  await vi.waitFor(() => expect(heard.map((s) => s.status)).toEqual(['passing']), LIMIT)
})

test('http wants a 2xx', async () => {
  let status = 503
  const port = await serve(() => status)
  const heard = check({ type: 'http', port, path: '/up' })
  await vi.waitFor(() => expect(heard.at(-1)?.output).toBe('503 Service Unavailable'), LIMIT)
  status = 204
  await vi.waitFor(() => expect(heard.at(-1)?.status).toBe('passing'), LIMIT)
})

test('an answer that does not come in time is a failure', async () => {
  const server = createServer(() => {})
  open.servers.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const heard = check({ type: 'http', port, timeout_ms: 50 })
  await vi.waitFor(() => expect(heard.at(-1)?.output).toBe('no answer within 50 ms'), LIMIT)
})

test('where the port refuses, what listens instead is said, and forgotten once it answers', async () => {
  const port = await serve(() => 200)
  for (const server of open.servers.splice(0)) server.close()
  const heard = check({ port }, 'warning', async () => [`127.0.0.1:${port + 1}`])
  await vi.waitFor(
    () =>
      expect(heard.at(-1)).toMatchObject({
        status: 'critical',
        output: expect.stringContaining(
          `nothing listens on port ${port}, but on 127.0.0.1:${port + 1}`,
        ),
        listening: [`127.0.0.1:${port + 1}`],
      }),
    LIMIT,
  )
  await serve(() => 200, port)
  await vi.waitFor(() => expect(heard.at(-1)).toMatchObject({ status: 'passing' }), LIMIT)
  expect(heard.at(-1)).not.toHaveProperty('listening')
})

test('a look that fails leaves what the connection said', async () => {
  const port = await serve(() => 200)
  for (const server of open.servers.splice(0)) server.close()
  const looks: number[] = []
  const heard = check({ port }, 'warning', async () => {
    looks.push(Date.now())
    throw new Error('gone')
  })
  await vi.waitFor(() => expect(looks).not.toEqual([]), LIMIT)
  expect(heard.map(({ output }) => output)).toEqual(['connection refused'])
})

test('runs of a check never overlap, however long one takes to let go', async () => {
  const runs = { now: 0, most: 0, all: 0 }
  const checks = createProbeChecks({
    clock: systemClock,
    probe: async (_spec, _address, signal) => {
      runs.now++
      runs.all++
      runs.most = Math.max(runs.most, runs.now)
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      await new Promise((resolve) => setImmediate(resolve))
      runs.now--
      return { passing: true, output: 'too late' }
    },
  })
  const name = 'servicecheck-00-tcp-1'
  const times = { interval_ms: 10, timeout_ms: 10, grace_period_ms: 0 }
  const heard: CheckStatus[] = []
  const end = checks.start(
    {
      id: '3d8d0000000001' as MachineId,
      address: '127.0.0.1',
      startedAt: Date.now(),
      specs: [{ name, type: 'tcp', port: 1, ...times }],
      known: [{ name, status: 'warning', output: '', updatedAt: 0 }],
    },
    (statuses) => heard.push(...statuses),
  )
  open.ends.push(end)
  await vi.waitFor(() => expect(runs.all).toBeGreaterThan(3), LIMIT)
  expect(runs.most).toBe(1)
  expect(heard.map(({ output }) => output)).toEqual(['no answer within 10 ms'])
})

test('who is known to pass is looked at in its turn after a restart of the agent', async () => {
  const port = await serve(() => 200)
  const asked: number[] = []
  const checks = createProbeChecks({
    clock: {
      ...systemClock,
      sleep: (ms) => {
        asked.push(ms)
        return new Promise(() => {})
      },
    },
    probe: async () => {
      throw new Error('not yet')
    },
  })
  const name = 'servicecheck-00-tcp-1'
  const times = { interval_ms: 15_000, timeout_ms: 10, grace_period_ms: 0 }
  const startedAt = Date.now() - 60_000
  for (let n = 0; n < 3; n++)
    open.ends.push(
      checks.start(
        {
          id: `3d8d000000000${n}` as MachineId,
          address: '127.0.0.1',
          startedAt,
          specs: [{ name, type: 'tcp', port, ...times }],
          known: [{ name, status: 'passing', output: '', updatedAt: startedAt }],
        },
        () => {},
      ),
    )
  expect(new Set(asked).size).toBe(3)
  for (const ms of asked) expect(ms).toBeLessThanOrEqual(15_000)
})
