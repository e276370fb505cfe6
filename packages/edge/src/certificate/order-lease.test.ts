import { silentLogger } from '@roost/base'
import type { Host, HostId } from '@roost/core'
import { describe, expect, test } from 'vitest'
import { createTickingClock, settled } from '../trial-clock.ts'
import { createLeaseDesk } from './lease-desk.ts'
import { withOrderLease } from './order-lease.ts'

const [self, b, c] = ['a', 'b', 'c'].map((letter) => letter.repeat(14) as HostId) as [
  HostId,
  HostId,
  HostId,
]
const peer = (id: HostId, alive = true) =>
  ({ id, name: id.slice(0, 1), alive }) as Host & {
    readonly alive: boolean
  }

/** Edges that answer what a test says; `tick` is a quarter of a lease. */
function setUp(peers = [peer(b), peer(c)]) {
  const { clock, elapsedMs, tick } = createTickingClock(15_000)
  const answers = new Map<HostId, HostId | 'granted' | 'silence'>()
  const given = new Set<HostId>()
  const desk = createLeaseDesk({ self, isAlone: () => true, elapsedMs })
  const work = { aborted: null as string | null, end: () => {} }
  const run = () =>
    withOrderLease(
      {
        hostname: 'x.y',
        self,
        peers: () => peers,
        desk,
        edges: {
          lease: async ({ id }, _hostname, end) => {
            const answer = answers.get(id) ?? 'granted'
            if (answer === 'silence') throw new Error('no reply')
            if (end) given.delete(id)
            else if (answer === 'granted') given.add(id)
            return answer
          },
        },
        clock,
        log: silentLogger,
        leaseMs: 60_000,
        elapsedMs,
        signal: new AbortController().signal,
      },
      (signal) =>
        new Promise<string>((resolve) => {
          work.end = () => resolve('done')
          signal.addEventListener('abort', () => {
            work.aborted ??= (signal.reason as Error).message
            resolve('aborted')
          })
        }),
    )
  return { answers, given, work, run, tick }
}

describe('the words of other edges', () => {
  test('are all needed, and given back', async () => {
    const { answers, given, work, run } = setUp()
    answers.set(c, b)
    expect(await run()).toEqual({ kind: 'refused', why: `c has given its word to ${b}` })
    answers.set(c, 'silence')
    expect(await run()).toMatchObject({ kind: 'refused', why: 'c was not heard: no reply' })
    answers.clear()
    const running = run()
    await settled()
    expect(given.size).toBe(2)
    work.end()
    expect(await running).toEqual({ kind: 'done', value: 'done' })
    expect(given.size).toBe(0)
  })

  test('of edges that seem dead need not be had, but their no counts', async () => {
    const { answers, work, run } = setUp([peer(b, false)])
    answers.set(b, 'silence')
    const running = run()
    await settled()
    work.end()
    expect((await running).kind).toBe('done')
    answers.set(b, c)
    expect((await run()).kind).toBe('refused')
  })

  test('may be silent for less than they last, and end the order when they were for longer', async () => {
    const { answers, work, run, tick } = setUp()
    const running = run()
    await tick()
    answers.set(c, 'silence')
    for (let n = 0; n < 3; n++) await tick()
    expect(work.aborted).toBeNull()
    answers.clear()
    await tick()
    answers.set(c, 'silence')
    for (let n = 0; n < 3; n++) await tick()
    expect(work.aborted).toBeNull()
    await tick()
    expect(work.aborted).toContain('c was not heard')
    expect(await running).toEqual({ kind: 'done', value: 'aborted' })
  })

  test('that one takes back end the order at once, also where another is silent', async () => {
    const { answers, work, run, tick } = setUp()
    const running = run()
    await tick()
    answers.set(b, 'silence')
    answers.set(c, b)
    await tick()
    expect(work.aborted).toContain('c has given its word')
    await running
  })
})
