import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { openTrial, until } from '../trial-edge.ts'

const trial = await openTrial(4)
const { backend, get, load, raise, view } = trial
afterEach(() => trial.cleanUp())
afterAll(() => trial.close())

async function threeRegions() {
  const machines = [await backend(1), await backend(2, 'iad'), await backend(3, 'syd')] as const
  const raised = await raise()
  for (const machine of machines) raised.server.put('machine', machine.machine, view(machine))
  await raised.applied(raised.server.revision())
  const [near, far, further] = machines
  await until('the near one serves', async () => (await get()).machine === near.machine)
  return { near, far, further, ...raised }
}
const from = (headers: Record<string, string>, method = 'GET') => get({ headers, method })

describe('a client that asks for a machine or a region', () => {
  test('gets it, or another where it only prefers one, or is told that there is none', async () => {
    const { near, far, further } = await threeRegions()
    expect((await from({ 'fly-force-region': 'iad' })).machine).toBe(far.machine)
    expect((await from({ 'fly-force-region': 'fra, SYD, iad' })).machine).toBe(further.machine)
    expect((await from({ 'fly-force-region': 'us' })).machine).toBe(far.machine)
    expect((await from({ 'fly-prefer-region': 'syd' }, 'POST')).machine).toBe(further.machine)
    expect((await from({ 'fly-prefer-region': 'nrt' })).machine).toBe(near.machine)
    expect((await from({ 'fly-force-instance-id': far.machine })).machine).toBe(far.machine)
    expect((await from({ 'fly-prefer-instance-id': further.machine })).machine).toBe(
      further.machine,
    )
    expect((await from({ 'fly-prefer-instance-id': 'gone' })).machine).toBe(near.machine)
    for (const headers of [
      { 'fly-force-region': 'nrt' },
      { 'fly-force-instance-id': '99999999999999' },
      { 'fly-force-instance-id': "x'; shutdown" },
    ] as Record<string, string>[]) {
      const none = await from(headers)
      expect([none.status, none.headers['retry-after'], none.text]).toEqual([
        503,
        '1',
        'The machine or region that was asked for can not answer now.\n',
      ])
    }
    expect((await get()).machine).toBe(near.machine)
  })

  test('is not sent to another when the one it forces dies, and is when it only prefers that one', async () => {
    const { near, far } = await threeRegions()
    await far.kill()
    const preferred = await from({ 'fly-prefer-instance-id': far.machine })
    expect([preferred.status, preferred.machine]).toEqual([200, near.machine])
    const hits = near.hits.count
    const forced = from({ 'fly-force-instance-id': far.machine })
    // What was heard to be ready may be back soon.
    const again = await backend(2, 'iad')
    expect((await forced).machine).toBe(again.machine)
    expect(near.hits.count).toBe(hits)
  })

  test('counts for the machine that leaves, until it is answered', async () => {
    const { far, server, applied } = await threeRegions()
    const long = get({ path: '/?ms=1500', headers: { 'fly-force-region': 'iad' } })
    await until('it is at work', () => far.busy.now === 1)
    await applied(server.put('machine', far.machine, view(far, { routed: false })))
    await until('it is counted', () =>
      server.beats.at(-1)?.draining.some((d) => d.machine === far.machine && d.sessions === 1),
    )
    expect((await long).machine).toBe(far.machine)
    await until('nobody uses it', () => server.beats.at(-1)?.draining.length === 0)
    expect((await from({ 'fly-force-region': 'iad' })).status).toBe(503)
  })

  test('waits for an edge that is started again, and costs nobody else anything', async () => {
    const { far, edge, start } = await threeRegions()
    const traffic = load(50)
    await edge.current.close()
    const forced = from({ 'fly-force-region': 'iad' })
    const preferred = await from({ 'fly-prefer-region': 'iad' })
    expect(preferred.status).toBe(200)
    edge.current = await start()
    expect((await forced).machine).toBe(far.machine)
    await traffic.stop()
    expect(traffic.failures).toEqual([])
  })
})
